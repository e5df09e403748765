"""The `taskmill` command with a FastMCP file that knows nothing of Taskmill: real processes, one of them killed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from taskmill.testing import ClientKind
from taskmill.testing.clients import client_of
from tests.adapters.fastmcp_command import served_by_fastmcp
from tests.support.command_line import CommandLine
from tests.support.raw_stdio import RawHost
from tests.support.results import text_of
from tests.support.waiting import eventually, eventually_async

FILE = '''
import asyncio
import os
from pathlib import Path

from fastmcp import Context, FastMCP

mcp = FastMCP("Quarry")


@mcp.tool(task=True)
async def dig(name: str, ctx: Context) -> str:
    """Report half, wait for a file, and do the rest."""
    await ctx.report_progress(1, 2, "half of the hole")
    Path(f"{name}.{os.getpid()}.started").touch()
    while not Path("gate").exists():
        await asyncio.sleep(0.02)
    return f"{name} is dug"


@mcp.tool
def depth() -> int:
    """No task."""
    return 3
'''
WITH_THEIR_EXTENSION = (
    FILE.replace("mcp = ", "from fastmcp_tasks import TasksExtension\n\nmcp = ")
    + '\n\nmcp.add_extension(TasksExtension(url="redis://nowhere.invalid", concurrency=3))\n'
)


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    with CommandLine(tmp_path) as made:
        made.write("server.py", FILE)
        yield made


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_two_servers_and_two_workers_of_an_unchanged_file_survive_a_kill(
    cli: CommandLine, redis_url: str
) -> None:
    cli.environment |= {"TASKMILL_REDIS_URL": redis_url, "TASKMILL_PREFIX": "quarry", "TASKMILL_LEASE": "3"}
    cli.environment |= {"TASKMILL_HANDOFF_AFTER": "0.5"}
    with ExitStack() as stack:
        urls = [stack.enter_context(cli.started("serve", "server.py", "--port", "0")).url() for _ in range(2)]
        for _ in range(2):
            stack.enter_context(cli.started("worker", "server.py"))
        here, there = urls
        calls = [asyncio.create_task(dug(kind, here)) for kind in ClientKind]
        started = await eventually_async(
            lambda: sorted(cli.folder.glob("*.started")), lambda found: len(found) == len(calls), within=60
        )
        os.kill(int(started[0].name.split(".")[1]), signal.SIGKILL)
        (cli.folder / "gate").touch()
        assert await asyncio.gather(*calls) == [f"{kind.name} is dug" for kind in ClientKind]
        assert await dug(ClientKind.TASKS_2026, there) == "TASKS_2026 is dug"


async def dug(kind: ClientKind, url: str) -> str:
    async with client_of(kind, url) as client:
        return (await client.call("dig", name=kind.name)).text


@pytest.mark.slow
@pytest.mark.parametrize("file", [FILE, WITH_THEIR_EXTENSION], ids=["plain", "with_their_extension"])
def test_call_runs_a_tool_of_a_fastmcp_file(cli: CommandLine, file: str) -> None:
    cli.write("server.py", file)
    (cli.folder / "gate").touch()
    done = cli.run("call", "server.py", "dig", "name=it")
    assert done.stdout == "it is dug\n", done.stderr


ISOLATED = '''
import os

from fastmcp import Context, FastMCP
from taskmill.adapters.fastmcp import CurrentTask, Task, TaskConfig

mcp = FastMCP("Alone")


@mcp.tool(task=TaskConfig(isolation="process"))
async def alone(ctx: Context, task: Task = CurrentTask()) -> bool:
    """Work in a process of its own, with steps and questions."""
    pid = await task.step("pid", os.getpid)
    answer = await ctx.elicit("Sure?", response_type=str)
    return pid == os.getpid() and answer.action == "accept" and ctx.task_id == task.id
'''


@pytest.mark.slow
def test_an_isolated_tool_of_a_fastmcp_file_has_all_that_others_have(cli: CommandLine) -> None:
    cli.write("server.py", ISOLATED)
    done = cli.run("call", "server.py", "alone", "--answer", "value=yes")
    assert done.stdout == "true\n", done.stderr


@pytest.mark.slow
def test_doctor_and_install_take_a_fastmcp_file(cli: CommandLine) -> None:
    assert "server.py has 1 task tool" in cli.run("doctor", "server.py").stdout
    shown = cli.run("install", "claude-code", "server.py", "--dry-run")
    assert "quarry" in shown.stdout.lower(), shown.stderr


@pytest.mark.slow
def test_a_desktop_host_gets_the_result_over_pipes(cli: CommandLine) -> None:
    (cli.folder / "gate").touch()
    command = cli.command("stdio", "server.py")
    with RawHost.started(command, cli.environment, cli.folder, cli.folder / "stdio.log") as host:
        task_id = host.call_as_task("dig", name="it")
        ended = eventually(lambda: host.task(task_id), lambda task: task["status"] == "completed")
    assert text_of(ended["result"]) == "it is dug"


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_fastmcps_own_command_serves_and_taskmills_worker_works(cli: CommandLine, redis_url: str) -> None:
    cli.write("server.py", FILE + "\n\nfrom taskmill.adapters.fastmcp import Tasks\n\nmcp.add_extension(Tasks())\n")
    cli.environment |= {"TASKMILL_REDIS_URL": redis_url, "TASKMILL_PREFIX": "fastmcp-run"}
    (cli.folder / "gate").touch()
    with served_by_fastmcp(cli, "server.py") as url, cli.started("worker", "server.py"):
        for kind in ClientKind:
            assert await dug(kind, url) == f"{kind.name} is dug"


@pytest.mark.slow
def test_a_server_of_taskmills_own_does_not_import_fastmcp() -> None:
    code = (
        "import sys, tempfile, pathlib; p = pathlib.Path(tempfile.mkdtemp()) / 'own.py';"
        "p.write_text('from taskmill import TaskServer\\nmcp = TaskServer()');"
        "from taskmill.cli.loading import load_server; load_server(str(p));"
        "sys.exit('fastmcp' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
