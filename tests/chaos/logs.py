"""What the processes of a run logged that nobody meant them to."""

from collections import Counter
from pathlib import Path

__all__ = ["surprises"]

_SURPRISES = (
    "was never retrieved",
    "Exception in callback",
    "Exception in thread",
    "Task was destroyed",
    '"request.crashed"',
    '"request.failed"',
)
_MEANT = ('"StoreUnavailable"', '"StoreFull"')
"""What a request may fail with: Redis is taken away, and filled."""
_SHOWN = 300


def surprises(folder: Path) -> list[str]:
    """One for each kind and log, with the first line of it; [] when there is none."""
    counts: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], str] = {}
    for log in sorted(folder.glob("*.log")):
        with log.open(errors="replace") as lines:
            for line in lines:
                for surprise in _SURPRISES:
                    if surprise in line and not any(meant in line for meant in _MEANT):
                        counts[log.name, surprise] += 1
                        first.setdefault((log.name, surprise), line[:_SHOWN].rstrip())
    return [f"{name}: {count} x {surprise}: {first[name, surprise]}" for (name, surprise), count in counts.items()]
