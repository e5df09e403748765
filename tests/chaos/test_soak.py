"""The soak in the form that every run of the suite can afford; `scripts/soak --hours 8` is the long one."""

from pathlib import Path

import pytest

from tests.chaos.soak import Plan, soak


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_an_even_load_leaves_nothing_behind(tmp_path: Path) -> None:
    """Forty seconds of it, with three kills; so soon after the start memory still settles, so its limit is wide."""
    report = await soak(Plan(hours=40 / 3600, folder=tmp_path, kill_every=10, retention=3))

    assert report.wrong == []
    assert report.left_over == {}
    assert report.answered > 1500
    assert report.kills >= 3
    assert max(report.drift(name) for name in report.memory) < 0.25, "\n".join(report.lines())
