"""What the bench keeps of its runs, and how it sees that the machine was disturbed."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.calibration import SLOW, Calibrations
from bench.figures import Figure, Goal, Result
from bench.history import History
from bench.plan import Plan
from bench.report import as_table, verdicts

MACHINE: dict[str, Any] = {
    "date": "2026-11-30T08:00:00+00:00",
    "cores": 2,
    "processor": "a processor",
    "system": "Linux 6",
    "python": "3.11.7",
    "redis": "9.1",
}
PLAN = Plan(rounds=3, seconds=3.0)
FIGURE = Figure("rate", "tasks", "tasks/s", True, ("saq",), Goal("≥ 1x saq", lambda _: 1000.0))
DISTURBED = "the machine had 50 % and 100 % of its best pace before and after"


def result(ours: float, goal: float | None = 1000.0, disturbance: str = "") -> Result:
    return Result(FIGURE, {"taskmill": [ours], "saq": [1000.0]}, goal, disturbance=disturbance)


def history_of(file: Path, *runs: Result, machine: dict[str, Any] = MACHINE, plan: Plan = PLAN) -> History:
    """Read afresh after each run, as by the next one."""
    for run in runs:
        History.of(file, machine, plan).with_run([run], [5.0, 5.5])
    return History.of(file, MACHINE, PLAN)


def test_a_goal_counts_as_met_after_three_runs_in_a_row_that_met_it(tmp_path: Path) -> None:
    file = tmp_path / "made" / "history.jsonl"
    runs = [result(900), result(1100), result(1200)]
    history = history_of(file, *runs)
    assert list(history.standings(runs)) == [
        "NOT YET rate: met in 2 of the last 3 runs that judged it; 3 in a row count",
        "0 of 1 goals are met in 3 runs in a row",
    ]
    assert list(history_of(file, result(1000)).standings(runs)) == ["1 of 1 goals are met in 3 runs in a row"]


def test_the_course_of_a_figure_has_every_comparable_run_and_marks_the_disturbed_ones(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    history_of(file, result(7), machine={**MACHINE, "cores": 8})
    history_of(file, result(8), plan=replace(PLAN, scale=0.1))
    history = history_of(file, result(1900), result(700, disturbance=DISTURBED), result(2000.4))
    assert list(history.courses([result(1)])) == ["rate: 1,900 -> ~700 -> 2,000 tasks/s"]
    assert history.standing("rate") == (2, 2), "a disturbed run judges nothing"
    assert history.best_pace() == 5.5


def test_a_file_that_is_no_history_is_refused_by_name(tmp_path: Path) -> None:
    for text in ("no JSON", "[1]", "{}"):
        (tmp_path / "notes.jsonl").write_text(text + "\n")
        with pytest.raises(ValueError, match=r"notes\.jsonl .* move the file away"):
            History.of(tmp_path / "notes.jsonl", MACHINE, PLAN)


def test_a_line_of_the_history_says_of_which_code_it_is(tmp_path: Path) -> None:
    history_of(tmp_path / "history.jsonl", result(1))
    line = json.loads((tmp_path / "history.jsonl").read_text())
    assert line["machine"] == {key: value for key, value in MACHINE.items() if key != "date"}
    assert line["commit"] is None or len(line["commit"]) >= 10


@pytest.mark.parametrize(
    ("paces", "best", "disturbed"),
    [
        ([10, 10, 9], 0, [False, False]),
        ([10, 8, 10], 0, [True, True]),
        ([10, 10, 5], 0, [False, True]),
        ([10, 10, 10], 20, [True, True]),
        ([], 0, [False, False]),
    ],
)
def test_a_case_beside_a_slow_calibration_is_disturbed(
    paces: Sequence[float], best: float, disturbed: list[bool]
) -> None:
    calibrations = Calibrations(paces, best)
    assert [bool(calibrations.disturbance(case)) for case in (0, 1)] == disturbed


def test_a_goal_is_neither_met_nor_missed_on_a_disturbed_machine() -> None:
    found = result(10, disturbance=Calibrations([10, 5, 10]).disturbance(1))
    assert found.is_met is None
    assert list(verdicts([found], {})) == [
        "NOT JUDGED rate: tasks: the machine had 50 % and 100 % of its best pace before and after",
        "0 of 0 goals are met",
    ]
    assert as_table([found]).endswith("not judged: disturbed")


def test_programs_that_take_the_cores_are_seen_by_the_calibration() -> None:
    """Each core has to do three loops more, so that it holds on a machine that is busy in any case."""
    quiet = Calibrations().again().again()
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3 * (os.cpu_count() or 1))]
    try:
        calibrations = quiet.again()
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
    assert calibrations.paces[-1] < SLOW * max(calibrations.paces)
