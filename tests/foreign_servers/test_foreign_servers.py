"""Real servers of other people behind Taskmill: their answers are their own. All of them: `scripts/foreign-servers`."""

import os
from pathlib import Path

import pytest

from tests.foreign_servers.comparison import Transport, compare
from tests.foreign_servers.installation import CannotInstall
from tests.foreign_servers.servers import SERVERS

TOOLS = {
    "everything": ["get-structured-content", "get-annotated-message", "trigger-long-running-operation"],
    "time": ["convert_time"],
}


@pytest.mark.filterwarnings("ignore:The logging capability is deprecated")
@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(("name", "transport"), [("everything", "http"), ("time", "pipes")])
async def test_answers_through_taskmill_are_the_servers_own(name: str, transport: Transport, tmp_path: Path) -> None:
    """In the foreground, as a task of both dialects, held and handed off. Installing takes longer than the calls."""
    try:
        SERVERS[name].words()
    except CannotInstall as exc:
        if os.environ.get("CI"):
            pytest.fail(f"{name} must run in CI, and could not be installed: {exc}")
        pytest.skip(f"{name.upper()} DID NOT RUN: {exc}")
    report = await compare(name, transport, tmp_path, tools=frozenset(TOOLS[name]))
    assert [str(difference) for difference in report.differences] == []
    assert report.equal >= 5 * len(TOOLS[name])
