"""Which replica has a session's own stream, and that it follows every task, also those created before it opened."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing

import anyio
import pytest
from redis.asyncio import Redis

from taskmill.engine.record import NewTask
from taskmill.server.protocol.change_bus import ChangeBus
from taskmill.server.sessions.session_stream import SessionStream
from taskmill.server.settings import ServerSettings
from taskmill.store.formats.keys import Keys
from taskmill.store.opening import open_store
from taskmill.store.sessions.sessions import Session
from taskmill.store.tasks.tasks import TaskStore

SESSION = Session("s-1", "ada", "2025-11-25", {})


@pytest.fixture
async def stores(redis: Redis, settings: ServerSettings) -> AsyncIterator[list[TaskStore]]:
    """The stores of four replicas that have just started: none has a subscription yet."""
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(open_store(settings)) for _ in range(4)]
        await stores[0].sessions.open(SESSION)
        yield stores


async def test_of_streams_that_open_at_the_same_time_one_stays_open(stores: list[TaskStore]) -> None:
    ended = []

    async def hold(store: TaskStore) -> None:
        async with aclosing(SessionStream(store, SESSION, ChangeBus()).run()) as frames:
            async for _ in frames:
                pass
        ended.append(store)
        if len(ended) == len(stores) - 1:
            everyone.cancel_scope.cancel()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as everyone:
            for store in stores:
                everyone.start_soon(hold, store)
    assert len(ended) == len(stores) - 1


async def test_a_stream_follows_a_task_that_was_created_before_its_subscription(stores: list[TaskStore]) -> None:
    here, there, *_ = stores
    await begin(there, "t-1")
    async with aclosing(SessionStream(here, SESSION, ChangeBus()).run()) as frames:
        await anext(frames)
        assert b"t-1" in await following(frames)


async def test_a_stream_follows_a_task_that_was_created_while_redis_was_disconnected(
    stores: list[TaskStore], redis: Redis
) -> None:
    here, there, *_ = stores
    async with aclosing(SessionStream(here, SESSION, ChangeBus()).run()) as frames:
        await anext(frames)
        await begin(there, "t-1")
        assert b"t-1" in await following(frames)
        await there.create(NewTask("t-2", "wait", SESSION.principal, b"{}"))
        async with redis.pipeline() as pipe:  # so that no subscriber reconnects before the task is one of the session's
            pipe.client_kill_filter(_type="pubsub")
            pipe.hset(Keys().followed(SESSION.id), "t-2", "null")
            await pipe.execute()
        assert b"t-2" in await following(frames)


async def test_a_stream_that_was_disconnected_when_a_newer_one_opened_ends(
    stores: list[TaskStore], redis: Redis
) -> None:
    here, there, *_ = stores
    async with (
        aclosing(SessionStream(here, SESSION, ChangeBus()).run()) as older,
        aclosing(SessionStream(there, SESSION, ChangeBus()).run()) as younger,
    ):
        await anext(older)
        await begin(there, "t-1")
        assert b"t-1" in await following(older)
        await redis.client_kill_filter(_type="pubsub")
        await anext(younger)
        with anyio.fail_after(30):
            assert [frame async for frame in older if b"t-1" not in frame] == []


async def begin(store: TaskStore, task_id: str) -> None:
    """A task of the session, as a replica creates it."""
    await store.create(NewTask(task_id, "wait", SESSION.principal, b"{}"))
    await store.sessions.follow(SESSION.id, task_id, None)


async def following(frames: AsyncIterator[bytes]) -> bytes:
    """The next frame."""
    with anyio.fail_after(30):
        return await anext(frames)
