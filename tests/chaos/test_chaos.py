"""Chaos in the form that every run of the suite can afford; `scripts/chaos --tasks 100000` is the long one."""

from pathlib import Path

import pytest

from tests.chaos.journal import lines_of
from tests.chaos.run import Plan, run
from tests.support.movable_clock import can_move_clocks


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_three_thousand_tasks_survive_kills_cuts_pauses_and_outages(tmp_path: Path) -> None:
    """Every promise, for clients of all classes; and no process said anything that nobody meant it to say."""
    report = await run(Plan(tasks=3000, seed=20261125, minutes=1.7, folder=tmp_path))

    assert report.problems == [], "\n".join(report.lines())
    assert report.acknowledged > 2000
    assert report.reclaims > 0
    assert set(report.cuts) == {"before", "after"}
    assert set(report.faults) == {
        *("kill_worker", "stop_worker", "pause_worker", "kill_replica", "deploy"),
        *("kill_redis", "leave_without_redis", "fill_redis"),
        *(["move_clock"] if can_move_clocks() else []),
    }
    exits = [facts for what, _at, *facts in lines_of(tmp_path / "journals", "faults") if what == "exit"]
    assert {code for _name, code in exits} <= {0, 3}, "3: a tool ended the process while it was leaving"
