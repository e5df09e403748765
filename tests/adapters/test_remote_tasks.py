"""A server that has tasks itself, of either revision: its task is followed by its id, by whichever worker has ours."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from taskmill.testing import ClientKind
from taskmill.testing.clients import client_of
from tests.support.command_line import CommandLine
from tests.support.waiting import eventually_async

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

UPSTREAM = '''
import asyncio
import os
from pathlib import Path

from mcp.shared.exceptions import MCPError
from mcp.types import METHOD_NOT_FOUND
from pydantic import BaseModel

from taskmill import TaskConfig, TaskServer
from taskmill.server import Context

mcp = TaskServer("Upstream")
QUICK = TaskConfig(poll_interval=0.1)


class Answer(BaseModel):
    value: str


@mcp.tool(task=QUICK)
async def dig(name: str, ctx: Context) -> str:
    """Wait for a file."""
    Path(f"{name}.started").touch()
    try:
        await ctx.report_progress(1, 2, "half of the hole")
        while not Path(f"{name}.gate").exists():
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        Path(f"{name}.cancelled").touch()
        raise
    return f"{name} is dug in task {ctx.task_id}"


@mcp.tool(task=QUICK)
async def greet(ctx: Context) -> str:
    """Ask."""
    answer = await ctx.elicit("Who is there?", Answer)
    return f"{answer.action} {answer.data.value}"


async def refuse_2026(ctx, call_next):
    if ctx.method == "server/discover":
        raise MCPError(code=METHOD_NOT_FOUND, message="Method not found")
    return await call_next(ctx)


if os.environ.get("ONLY_2025"):
    from taskmill.server.protocol.sdk_private import lowlevel_of

    lowlevel_of(mcp).middleware.insert(0, refuse_2026)
'''


@pytest.fixture(params=["2025", "2026"])
def upstream(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[CommandLine, str]]:
    """The server with tasks of its own, and its address."""
    folder = tmp_path / "upstream"
    folder.mkdir()
    with CommandLine(folder) as made:
        made.write("tasks.py", UPSTREAM)
        made.environment |= {"ONLY_2025": "1"} if request.param == "2025" else {}
        with made.started("run", "tasks.py", "--port", "0") as command:
            yield made, command.url()


async def test_a_rescue_follows_the_same_task_of_the_server(
    upstream: tuple[CommandLine, str], cli: CommandLine, redis_url: str
) -> None:
    there, address = upstream
    cli.environment |= {"TASKMILL_REDIS_URL": redis_url, "TASKMILL_PREFIX": "followed", "TASKMILL_LEASE": "3"}
    with ExitStack() as stack:
        url = stack.enter_context(cli.started("serve", address, "--port", "0")).url()
        worker = stack.enter_context(cli.started("worker", address))
        async with client_of(ClientKind.TASKS_2026, url) as client:
            calling = asyncio.create_task(client.call("dig", name="it"))
            started = there.folder / "it.started"
            await eventually_async(started.exists, within=60)
            await eventually_async(
                lambda: [one for one in client.called.seen if "half of the hole" in one.message], within=60
            )
            started.unlink()
            os.kill(worker.process.pid, signal.SIGKILL)
            stack.enter_context(cli.started("worker", address))
            (there.folder / "it.gate").touch()
            record = await calling
    assert record.text.startswith("it is dug in task "), record.text
    assert not started.exists()  # no second task was made there


async def test_questions_and_cancels_pass(upstream: tuple[CommandLine, str], cli: CommandLine, redis_url: str) -> None:
    there, address = upstream
    cli.environment |= {"TASKMILL_REDIS_URL": redis_url, "TASKMILL_PREFIX": "followed"}
    with cli.started("serve", address, "--port", "0") as server, cli.started("worker", address):
        url = server.url()
        for kind in (ClientKind.TASKS_2026, ClientKind.TASKS_2025):
            async with client_of(kind, url, answers=[{"value": "Ann"}]) as client:
                assert (await client.call("greet")).text == "accept Ann"
        async with client_of(ClientKind.TASKS_2026, url) as client:
            task_id = await client.begin("dig", name="it")  # type: ignore[attr-defined]
            await eventually_async((there.folder / "it.started").exists, within=60)
            await client.cancel(task_id)  # type: ignore[attr-defined]
            await eventually_async((there.folder / "it.cancelled").exists, within=60)
