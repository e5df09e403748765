"""Where Taskmill may differ from docket, and where it does."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from tests.fastmcp_suite.run import Outcome

__all__ = ["Comparison", "compare", "expected_differences"]

FILE = Path(__file__).parent / "differences.toml"


@dataclass
class Comparison:
    """Both runs beside each other."""

    both: list[str] = field(default_factory=list)
    """Tests that pass on both."""
    expected: dict[str, str] = field(default_factory=dict)
    """Tests that fail on Taskmill as differences.toml says, with the reason there."""
    unexpected: dict[str, str] = field(default_factory=dict)
    """Tests that pass on docket and fail on Taskmill, and are not listed; with why they failed."""
    stale: list[str] = field(default_factory=list)
    """Lines of differences.toml that no failing test matches."""
    neither: list[str] = field(default_factory=list)
    """Tests that fail on docket: they say nothing about Taskmill."""
    missing: list[str] = field(default_factory=list)
    """Tests that ran on one engine alone."""
    reached: int = 0
    """Tests that created at least one task on Taskmill."""

    @property
    def is_as_expected(self) -> bool:
        """Nothing differs but what is listed, and all that is listed differs."""
        return bool(self.both) and not (self.unexpected or self.stale or self.missing)

    def lines(self) -> Iterator[str]:
        """For a terminal."""
        yield (
            f"{len(self.both)} pass on both; {len(self.expected)} differ as listed; {self.reached} created tasks; "
            f"{len(self.neither)} fail on docket too"
        )
        for name, why in sorted(self.unexpected.items()):
            yield f"NOT AS ON DOCKET  {name}\n    {why}"
        yield from (f"LISTED, BUT THE SAME ON BOTH  {name}" for name in self.stale)
        yield from (f"RAN ON ONE ENGINE ALONE  {name}" for name in self.missing)


def expected_differences() -> dict[str, str]:
    """Reason by pattern of test ids (`*` stands for anything), from differences.toml.

    Raises:
        ValueError: A pattern is listed twice, or a reason is empty.
    """
    found: dict[str, str] = {}
    for entry in tomllib.loads(FILE.read_text())["difference"]:
        if not entry["reason"].strip():
            raise ValueError(f"a difference without a reason: {entry['tests']}")
        for pattern in entry["tests"]:
            if pattern in found:
                raise ValueError(f"listed twice: {pattern}")
            found[pattern] = entry["reason"]
    return found


def compare(docket: Mapping[str, Outcome], taskmill: Mapping[str, Outcome], expected: Mapping[str, str]) -> Comparison:
    """Put each test where it belongs."""
    result = Comparison(missing=sorted(docket.keys() ^ taskmill.keys()))
    result.reached = sum(outcome.tasks > 0 for outcome in taskmill.values())
    unused = dict(expected)
    for name in sorted(docket.keys() & taskmill.keys()):
        pattern = _matching(name, expected)
        if not taskmill[name].passed and pattern is not None:
            unused.pop(pattern, None)
            result.expected[name] = expected[pattern]
        elif not docket[name].passed:
            result.neither.append(name)
        elif taskmill[name].passed:
            result.both.append(name)
        else:
            result.unexpected[name] = taskmill[name].reason
    result.stale = [pattern for pattern in unused if any(_fits(name, pattern) for name in taskmill)]
    result.stale += [f"{pattern} (no such test)" for pattern in unused if not any(_fits(n, pattern) for n in taskmill)]
    return result


def _matching(name: str, expected: Mapping[str, str]) -> str | None:
    return next((pattern for pattern in expected if _fits(name, pattern)), None)


def _fits(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name.replace("[", "("), pattern.replace("[", "("))
