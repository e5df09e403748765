"""FastMCP's own command beside Taskmill's, with the file of the page."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskmill.testing import ClientKind
from taskmill.testing.clients import client_of
from tests.adapters.fastmcp_command import FASTMCP, served_by_fastmcp
from tests.adapters.fastmcp_howto import blocks
from tests.support.command_line import CommandLine


@pytest.fixture
def cli(tmp_path: Path, redis_url: str) -> Iterator[CommandLine]:
    with CommandLine(tmp_path) as made:
        made.write("server.py", blocks("`fastmcp` beside `taskmill`")[0])
        made.environment |= {"TASKMILL_REDIS_URL": redis_url, "TASKMILL_PREFIX": "fastmcp-beside"}
        yield made


def fastmcp(cli: CommandLine, *arguments: str) -> str:
    """What a command of FastMCP's prints."""
    done = subprocess.run(
        [FASTMCP, *arguments],
        cwd=cli.folder,
        env=cli.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_fastmcps_command_serves_lists_and_calls_while_a_worker_of_ours_works(cli: CommandLine) -> None:
    with served_by_fastmcp(cli, "server.py") as url, cli.started("worker", "server.py"):
        assert "the report of 2025" in fastmcp(cli, "call", url, "report", "year=2025")
        assert "report" in fastmcp(cli, "list", url)
        async with client_of(ClientKind.TASKS_2026, url) as client:
            record = await client.call("report", year=2025)
    assert record.task_id is not None
    assert record.text == "the report of 2025"


@pytest.mark.slow
def test_fastmcps_command_inspects_a_file_with_our_extension(cli: CommandLine) -> None:
    assert "Reports" in fastmcp(cli, "inspect", "server.py")
