"""The author's lifespan: entered once in each server and each worker process, left once, its state is the tool's."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from redis.asyncio import Redis

from taskmill.server import Context, TaskServer
from taskmill.store.settings import StoreSettings
from tests.support.replica import client_of, working


@dataclass
class Process:
    """What one process has: its name, and what its lifespan did."""

    name: str
    diary: list[str] = field(default_factory=list)

    def server(self, settings: StoreSettings) -> TaskServer[Any]:
        @asynccontextmanager
        async def lifespan(_server: Any) -> AsyncIterator[str]:
            self.diary.append("in")
            yield f"state of {self.name}"
            self.diary.append("out")

        mcp: TaskServer[Any] = TaskServer("Lifespan", store=settings, lifespan=lifespan)

        async def state(ctx: Context[Any, Any]) -> str:
            return str(ctx.lifespan)

        mcp.add_tool(state, task=True)
        mcp.add_tool(state, "state_now")
        return mcp


async def test_each_process_enters_it_once_however_much_it_serves(redis: Redis, settings: StoreSettings) -> None:
    replica, worker = Process("replica"), Process("worker")
    async with client_of(replica.server(settings)) as rpc:
        async with working(worker.server(settings), settings):
            for _ in range(3):
                task = await rpc.done(await rpc.task("state"))
                assert task["result"]["content"][0]["text"] == "state of worker"
                reply = await rpc.without_tasks().call("state_now")
                assert reply["result"]["content"][0]["text"] == "state of replica"
            assert (replica.diary, worker.diary) == (["in"], ["in"])
        assert (replica.diary, worker.diary) == (["in"], ["in", "out"])
    assert replica.diary == ["in", "out"]


async def test_a_worker_whose_lifespan_fails_says_so_and_takes_nothing(redis: Redis, settings: StoreSettings) -> None:
    @asynccontextmanager
    async def lifespan(_server: Any) -> AsyncIterator[None]:
        raise RuntimeError("no database")
        yield

    broken: TaskServer[Any] = TaskServer("Lifespan", store=settings, lifespan=lifespan)
    async with client_of(Process("replica").server(settings)) as rpc:
        task_id = await rpc.task("state")
        with pytest.raises(RuntimeError, match="no database"):
            async with working(broken, settings):
                pass
        assert (await rpc.get(task_id))["result"]["status"] == "working"
        async with working(Process("other").server(settings), settings):
            assert (await rpc.done(task_id))["result"]["content"][0]["text"] == "state of other"
