"""Live workers can be listed from outside."""

import anyio
from redis.asyncio import Redis

from taskmill.store.opening import open_store
from taskmill.store.settings import StoreSettings
from tests.support.replica import working
from tests.support.sample_server import make_server


async def test_live_workers_say_what_they_serve_and_are_gone_when_they_leave(
    redis: Redis, settings: StoreSettings
) -> None:
    server = make_server(settings)
    async with open_store(settings) as store:
        async with working(server, settings, concurrency=7):
            with anyio.fail_after(30):
                while not (seen := await store.workers()):
                    await anyio.sleep(0.01)
            (worker,) = seen
            assert (worker["queue"], worker["concurrency"], worker["running"]) == ("default", 7, 0)
            assert worker["tools"] == sorted(server.policies())
        assert await store.workers() == []
