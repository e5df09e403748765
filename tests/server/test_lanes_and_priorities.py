"""Lanes and priorities as an author writes them, over the wire."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from taskmill.engine.errors import PolicyError
from taskmill.server import TaskConfig, TaskServer
from taskmill.store.settings import StoreSettings
from tests.support.replica import Rpc, client_of, working

running: Counter[str] = Counter()
most: Counter[str] = Counter()


async def work(lane: str) -> str:
    running[lane] += 1
    most[lane] = max(most[lane], running[lane])
    for _ in range(20):
        await asyncio.sleep(0)  # others would run here
    running[lane] -= 1
    return lane


def make_server(settings: StoreSettings) -> TaskServer[Any]:
    mcp: TaskServer[Any] = TaskServer("Turns", store=settings)

    @mcp.tool(task=TaskConfig(concurrency_key="repo:{path}"))
    async def index(path: str) -> str:
        """One at a time in each repository."""
        return await work(path)

    @mcp.tool(task=TaskConfig(concurrency_key="repo:{repository}", concurrency_limit=1))
    async def reindex(repository: str) -> str:
        """Another tool in the same lanes."""
        return await work(repository)

    @mcp.tool(task=TaskConfig(concurrency_limit=2))
    async def render() -> str:
        """Two at a time in all."""
        return await work("render")

    @mcp.tool(task=TaskConfig(concurrency_key=lambda arguments: arguments["host"] or None, concurrency_limit=1))
    async def fetch(host: str) -> str:
        """None is no lane."""
        return await work(f"fetch {host}")

    return mcp


@pytest.fixture
async def client(redis: Redis, settings: StoreSettings) -> AsyncIterator[Rpc]:
    running.clear()
    most.clear()
    async with client_of(make_server(settings)) as rpc, working(make_server(settings), settings, concurrency=20):
        yield rpc


async def all_done(client: Rpc, *calls: tuple[str, dict[str, Any]]) -> None:
    tasks = await asyncio.gather(*(client.task(tool, **arguments) for tool, arguments in calls))
    for task in tasks:
        assert (await client.done(task))["status"] == "completed"


async def test_tasks_with_one_key_run_one_at_a_time_also_from_two_tools(client: Rpc) -> None:
    calls: list[tuple[str, dict[str, Any]]] = [("index", {"path": path}) for path in "aabbab"]
    await all_done(client, *calls, *[("reindex", {"repository": path}) for path in "abab"])

    assert most == {"a": 1, "b": 1}


async def test_a_limit_without_a_key_is_the_tools(client: Rpc) -> None:
    await all_done(client, *[("render", {})] * 8)

    assert most == {"render": 2}


async def test_a_function_that_returns_none_leaves_its_call_out_of_every_lane(client: Rpc) -> None:
    await all_done(client, *[("fetch", {"host": host}) for host in ["", "", "", "h", "h", "h"]])

    assert most["fetch h"] == 1
    assert most["fetch "] > 1


def test_a_lane_of_an_argument_that_is_not_there_is_refused_at_import_and_names_the_tool() -> None:
    mcp: TaskServer[Any] = TaskServer("Turns")
    with pytest.raises(PolicyError) as refused:

        @mcp.tool(task=TaskConfig(concurrency_key="user"))
        async def ship(user: str) -> str:
            return user

    assert str(refused.value) == (
        "Tool 'ship': concurrency_key='user' would be the same for every call; write '{user}' for its value"
    )
