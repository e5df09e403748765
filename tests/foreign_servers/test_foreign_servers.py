"""Real servers of other people behind Taskmill: their answers are their own. All of them: `scripts/foreign-servers`."""

import os
from pathlib import Path

import pytest

from tests.foreign_servers.comparison import Transport, compare
from tests.foreign_servers.installation import CannotInstall
from tests.foreign_servers.long_call import make_long_call
from tests.foreign_servers.servers import SERVERS
from tests.support.official_clients import Official

TOOLS = {
    "everything": ["get-structured-content", "get-annotated-message", "trigger-long-running-operation"],
    "time": ["convert_time"],
}


def need(name: str) -> None:
    """Install a server. Where it cannot be had the test is skipped, and in CI it fails."""
    try:
        SERVERS[name].words()
    except CannotInstall as exc:
        if os.environ.get("CI"):
            pytest.fail(f"{name} must run in CI, and could not be installed: {exc}")
        pytest.skip(f"{name.upper()} DID NOT RUN: {exc}")


@pytest.mark.filterwarnings("ignore:The logging capability is deprecated")
@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("name", "transport"), [("everything", "http"), ("time", "pipes")])
async def test_answers_through_taskmill_are_the_servers_own(name: str, transport: Transport, tmp_path: Path) -> None:
    """In the foreground, as a task of both dialects, held and handed off. Installing takes longer than the calls."""
    need(name)
    report = await compare(name, transport, tmp_path, tools=frozenset(TOOLS[name]))
    assert [str(difference) for difference in report.differences] == []
    assert report.equal >= 5 * len(TOOLS[name])


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_host_with_a_hard_limit_gets_the_result_of_a_longer_call(tmp_path: Path, official: Official) -> None:
    """Over standard input and output; ten minutes and sixty seconds are scaled down. `scripts/foreign-servers`
    `--minutes 10` takes the real figures."""
    need("everything")
    found = make_long_call(tmp_path, official, 12, limit=4, settings={"TASKMILL_HANDOFF_AFTER": "2"})
    assert found.fault == "", found
    assert len(found.answers) >= 4, found
