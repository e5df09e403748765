"""What a task tool logs for its caller reaches it with the held call, and on the session of a task of 2025-11-25."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp_types import LoggingMessageNotificationParams

from taskmill import TaskConfig
from taskmill.server import Context, TaskServer
from taskmill.server.protocol.sdk_private import request_without_types
from taskmill.testing import TestBed
from tests.support.waiting import eventually_async

pytestmark = pytest.mark.filterwarnings("ignore:The logging capability is deprecated")
LOGGED = [("info", {"page": 1}, None), ("warning", "page 2 is empty", "reader"), ("error", "{1}", None)]


class Odd:
    def __repr__(self) -> str:
        return "{1}"


async def read(gate: str, ctx: Context[Any, Any]) -> str:
    """Log what JSON has, and what it has not, once the caller follows."""
    await ctx.report_progress(1, 2, "opening")
    while not Path(gate).exists():
        await asyncio.sleep(0.01)
    await ctx.info({"page": 1})
    await ctx.warning("page 2 is empty", logger_name="reader")
    await ctx.error(Odd())
    return "read"


server = TaskServer("Reader")
server.tool(task=True)(read)
server.tool(name="read_apart", task=TaskConfig(isolation="process"))(read)


@pytest.fixture
async def received(redis_url: str, tmp_path: Path) -> Any:
    """Calls a tool as a client, and gives what that was sent."""
    gate = tmp_path / "gate"

    async def call(tool: str, *, as_task: bool) -> list[tuple[str, Any, str | None]]:
        logged: list[tuple[str, Any, str | None]] = []

        async def keep(params: LoggingMessageNotificationParams) -> None:
            logged.append((params.level, params.data, params.logger))

        async def follows(*_: Any) -> None:
            gate.touch()

        async with (
            TestBed(server, redis_url=redis_url) as bed,
            Client(bed.url, mode="legacy", logging_callback=keep) as client,
        ):
            arguments = {"gate": str(gate)}
            if not as_task:
                await client.call_tool(tool, arguments, progress_callback=follows)
            else:
                params = {"name": tool, "arguments": arguments, "task": {}}
                made = await request_without_types(client.session, "tools/call", params)
                task = {"taskId": made["task"]["taskId"]}
                await eventually_async(
                    lambda: request_without_types(client.session, "tasks/get", task),
                    lambda found: "opening" in found.get("statusMessage", ""),
                    within=30,
                )
                gate.touch()
                await request_without_types(client.session, "tasks/result", task)
        return logged

    return call


Received = Callable[..., Any]


@pytest.mark.parametrize("as_task", [False, True], ids=["held", "2025"])
async def test_log_messages_of_a_task_reach_its_caller(received: Received, *, as_task: bool) -> None:
    assert await received("read", as_task=as_task) == LOGGED


async def test_log_messages_of_a_tool_in_a_process_of_its_own_reach_its_caller(received: Received) -> None:
    assert await received("read_apart", as_task=False) == LOGGED
