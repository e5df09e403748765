"""What a part of the attack did and found, and where the failing input is kept."""

import os
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["KEPT", "Report"]

KEPT = Path(__file__).parents[2] / "build" / "fuzz"


@dataclass
class Report:
    """One part's."""

    part: str
    examples: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    """Failing input, one file for each."""
    notes: list[str] = field(default_factory=list)

    def found(self, faults: list[str], said: str) -> None:
        """Note faults, and keep what was said."""
        self.faults += faults
        KEPT.mkdir(parents=True, exist_ok=True)
        file = KEPT / f"{self.part}-{os.getpid()}-{len(self.kept) + 1}.txt"
        file.write_text("\n".join(faults) + f"\n\n{said}\n", encoding="utf-8", errors="backslashreplace")
        self.kept.append(file)

    def lines(self) -> list[str]:
        """For a terminal."""
        head = f"{self.part}: {self.examples:,} examples in {self.seconds:.1f} s, {len(self.faults)} faults"
        faults = [f"  {fault}" for fault in self.faults[:20]]
        return [head, *(f"  {note}" for note in self.notes), *faults, *(f"  input: {file}" for file in self.kept)]
