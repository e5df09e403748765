"""For a first reader: the same call twice, tasks that take turns, and who is next."""

import asyncio
from typing import Any

from taskmill.server import TaskConfig, TaskServer
from taskmill.testing import TestBed
from taskmill.testing.tasks2026_client import Tasks2026Client

mcp: TaskServer[Any] = TaskServer("Turns")
running: set[str] = set()
order: list[str] = []


@mcp.tool(task=TaskConfig(idempotency="{month}"))
async def report(month: str) -> str:
    order.append(month)
    return f"report of {month}"


@mcp.tool(task=TaskConfig(concurrency_key="{repository}"))
async def index(repository: str, number: int) -> bool:
    """Whether it was alone in its repository."""
    alone = repository not in running
    running.add(repository)
    await asyncio.sleep(0)
    running.discard(repository)
    return alone


@mcp.tool(task=True)
async def normal(name: str) -> None:
    order.append(name)


@mcp.tool(task=TaskConfig(priority=1))
async def urgent(name: str) -> None:
    order.append(name)


async def test_the_same_call_twice_is_one_task(redis_url: str) -> None:
    order.clear()
    async with TestBed(mcp, redis_url=redis_url) as bed, bed.client() as client:
        first, second = [await client.call("report", month="May") for _ in range(2)]

    assert first.result == second.result
    assert order == ["May"]


async def test_tasks_with_one_key_run_one_at_a_time(redis_url: str) -> None:
    async with TestBed(mcp, redis_url=redis_url) as bed, bed.client() as client:
        calls = [client.call("index", repository="linux", number=number) for number in range(10)]
        called = await asyncio.gather(*calls)

    assert [one.result.structured_content for one in called if one.result] == [{"result": True}] * 10


async def test_the_more_urgent_task_goes_first(redis_url: str) -> None:
    order.clear()
    async with TestBed(mcp, redis_url=redis_url, concurrency=1) as bed, bed.client() as client:
        assert isinstance(client, Tasks2026Client)
        await bed.stop_worker()
        tasks = [await client.begin("normal", name="a"), await client.begin("normal", name="b")]
        tasks.append(await client.begin("urgent", name="c"))
        await bed.start_worker()
        for task in tasks:
            await bed.until(task)

    assert order == ["c", "a", "b"]
