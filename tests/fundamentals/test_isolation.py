"""For a first reader: tools in processes of their own, which can be killed and may fall without harm."""

import os
from typing import Any

from taskmill.engine.outcome import Failed
from taskmill.server import TaskConfig, TaskServer
from taskmill.testing import TestBed
from taskmill.testing.tasks2026_client import Tasks2026Client

mcp: TaskServer[Any] = TaskServer("Isolation")


@mcp.tool(task=TaskConfig(isolation="process"))
def where() -> int:
    return os.getpid()


@mcp.tool(task=TaskConfig(isolation="process", timeout=0.5))
def spin() -> None:
    while True:
        pass


@mcp.tool(task=TaskConfig(isolation="process"))
def fall() -> None:
    os._exit(3)


async def test_a_tool_may_run_in_a_process_of_its_own_that_is_kept_for_the_next(redis_url: str) -> None:
    async with TestBed(mcp, redis_url=redis_url) as bed, bed.client() as client:
        first, second = [await client.call("where") for _ in range(2)]

    assert first.result is not None
    assert first.result == second.result
    assert first.result.structured_content != {"result": os.getpid()}


async def test_a_timeout_kills_a_tool_that_looks_at_nothing(redis_url: str) -> None:
    async with TestBed(mcp, redis_url=redis_url) as bed, bed.client() as client:
        assert isinstance(client, Tasks2026Client)
        ended = await bed.until(await client.begin("spin"), "failed")

    assert isinstance(ended.outcome, Failed)
    assert ended.outcome.text == "spin ran longer than its limit of 0.5 s."


async def test_a_fall_is_the_tasks_alone(redis_url: str) -> None:
    async with TestBed(mcp, redis_url=redis_url) as bed, bed.client() as client:
        assert isinstance(client, Tasks2026Client)
        fallen = await bed.until(await client.begin("fall"), "failed")
        after = await client.call("where")

    assert isinstance(fallen.outcome, Failed)
    assert fallen.outcome.text == "The process of fall ended by itself with exit code 3."
    assert after.result is not None
