"""Two versions side by side, as every run of the suite can afford it; the long one: `scripts/two-versions`."""

from pathlib import Path

import pytest

from tests.chaos.earlier_version import CannotRun, earlier_version
from tests.chaos.run import Plan
from tests.chaos.two_versions import OneDeploy, run_both


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_the_commit_before_and_this_one_serve_one_redis_and_lose_nothing(tmp_path: Path) -> None:
    try:
        before = earlier_version("HEAD~1", tmp_path / "before", may_install=False)
    except CannotRun as reason:
        pytest.skip(f"TWO VERSIONS DID NOT RUN: {reason}")
    plan = Plan(
        tasks=60, seed=20261130, minutes=0.06, folder=tmp_path, workers=2, lanes=20, lease=3, cut_rate=0, pause=0.3
    )
    both = await run_both(plan, before, OneDeploy)

    assert both.report.problems == [], "\n".join(both.lines())
    assert set(both.effects) == {before.name, "this version"}
    assert both.report.faults


def test_a_version_that_cannot_be_run_is_refused_with_the_reason(tmp_path: Path) -> None:
    """A clone without history is one; so is a checkout that is none of git."""
    with pytest.raises(CannotRun, match="git rev-parse"):
        earlier_version("no-such-revision", tmp_path, may_install=False)
