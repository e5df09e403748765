"""The runs of the past, a line of JSON each, and what they say of a goal: met in three runs in a row, or not.

Only runs of the same size on the same machine are compared. A line has the date, the commit, the machine, the size of
the run, its calibrations, and of each figure our median, its ratio to the best peer, and whether its goal was met.
"""

import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.contenders import ROOT, TASKMILL
from bench.figures import Figure, Result
from bench.plan import Plan

__all__ = ["IN_A_ROW", "History"]

IN_A_ROW = 3
"""Runs in which a goal must be met, one after the other, to count as met."""
_SHOWN = 6
_MACHINE = ("cores", "processor")
Line = dict[str, Any]


@dataclass(frozen=True)
class History:
    """The lines of a file that are comparable with a run, oldest first."""

    file: Path
    machine: dict[str, Any]
    """See `bench.machine.facts`."""
    plan: Plan
    lines: Sequence[Line] = ()

    @classmethod
    def of(cls, file: Path, machine: dict[str, Any], plan: Plan) -> "History":
        """What the file has of that machine and size; nothing where there is no file.

        Raises:
            ValueError: a line is no line of a history.
        """
        history = cls(file, machine, plan)
        lines = file.read_text().splitlines() if file.exists() else []
        return cls(file, machine, plan, [line for line in map(history._read, lines) if history._is_comparable(line)])

    def with_run(self, results: Sequence[Result], paces: Sequence[float]) -> "History":
        """The same with one more, which is written to the end of the file."""
        line = {
            "date": self.machine["date"],
            "commit": _commit(),
            "machine": {fact: self.machine[fact] for fact in (*_MACHINE, "system", "python", "redis")},
            "plan": asdict(self.plan),
            "paces": [round(pace, 3) for pace in paces],
            "figures": {result.figure.key: _entry(result) for result in results},
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a") as file:
            file.write(json.dumps(line) + "\n")
        return History(self.file, self.machine, self.plan, [*self.lines, line])

    def best_pace(self) -> float:
        """The best calibration of them all; 0.0 without one."""
        return max((pace for line in self.lines for pace in line["paces"]), default=0.0)

    def standing(self, figure: str) -> tuple[int, int]:
        """Of the last three runs that judged the goal: in how many it was met, and how many there are."""
        judged = [entry["met"] for entry in self._entries(figure) if entry["met"] is not None][-IN_A_ROW:]
        return sum(judged), len(judged)

    def standings(self, results: Sequence[Result]) -> Iterator[str]:
        """The goals that were not met in three runs in a row, each with its count, and the sum."""
        with_goal = [result.figure for result in results if result.figure.goal is not None]
        counts = {figure.key: self.standing(figure.key) for figure in with_goal}
        held = [key for key, count in counts.items() if count == (IN_A_ROW, IN_A_ROW)]
        for key, (met, of) in counts.items():
            if key not in held:
                yield f"NOT YET {key}: met in {met} of the last {of} runs that judged it; {IN_A_ROW} in a row count"
        yield f"{len(held)} of {len(counts)} goals are met in {IN_A_ROW} runs in a row"

    def courses(self, results: Sequence[Result]) -> Iterator[str]:
        """One line a figure: our median in the runs of the past and in this one; `~` = the machine was disturbed."""
        for result in results:
            shown = [_shown(result.figure, entry) for entry in self._entries(result.figure.key)][-_SHOWN:]
            yield f"{result.figure.key}: {' -> '.join(shown)} {result.figure.unit}".rstrip()

    def _entries(self, figure: str) -> list[Line]:
        return [line["figures"][figure] for line in self.lines if figure in line["figures"]]

    def _is_comparable(self, line: Line) -> bool:
        same_machine = all(line["machine"][fact] == self.machine[fact] for fact in _MACHINE)
        return same_machine and line["plan"] == asdict(self.plan)

    def _read(self, text: str) -> Line:
        try:
            line: Line = json.loads(text)
            missing = {"machine", "plan", "paces", "figures"} - line.keys()
        except (ValueError, AttributeError):
            missing = {"JSON"}
        if missing:
            raise ValueError(f"{self.file} has a line that is none of a history of ./bench/run: move the file away")
        return line


def _entry(result: Result) -> Line:
    return {
        "ours": result.medians[TASKMILL.name],
        "ratio": result.ratio,
        "goal": result.goal,
        "met": result.is_met,
        "disturbed": bool(result.disturbance),
    }


def _shown(figure: Figure, entry: Line) -> str:
    return f"{'~' if entry['disturbed'] else ''}{entry['ours']:,.{figure.digits}f}"


def _commit() -> str | None:
    """The commit, with a + where the checkout differs from it; None without git."""
    try:
        command = ["git", "describe", "--always", "--abbrev=10", "--dirty=+", "--exclude=*"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
