"""Who holds a session's own stream, and that it hears of every task, also of what was said before it could hear."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing

import anyio
import pytest
from redis.asyncio import Redis

from taskmill.engine.record import NewTask
from taskmill.server.sessions.session_stream import SessionStream
from taskmill.server.settings import ServerSettings
from taskmill.store.formats.keys import Keys
from taskmill.store.opening import open_store
from taskmill.store.sessions.sessions import Session
from taskmill.store.tasks.tasks import TaskStore

SESSION = Session("s-1", "ada", "2025-11-25", {})


@pytest.fixture
async def stores(redis: Redis, settings: ServerSettings) -> AsyncIterator[list[TaskStore]]:
    """Those of four replicas that have only just started: none hears anything yet."""
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(open_store(settings)) for _ in range(4)]
        await stores[0].sessions.open(SESSION)
        yield stores


async def test_of_streams_that_open_at_the_same_time_one_is_left(stores: list[TaskStore]) -> None:
    ended = []

    async def hold(store: TaskStore) -> None:
        async with aclosing(SessionStream(store, SESSION).run()) as frames:
            async for _ in frames:
                pass
        ended.append(store)
        if len(ended) == len(stores) - 1:
            everyone.cancel_scope.cancel()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as everyone:
            for store in stores:
                everyone.start_soon(hold, store)
    assert len(ended) == len(stores) - 1


async def test_a_stream_tells_of_a_task_that_was_begun_before_it_could_hear(stores: list[TaskStore]) -> None:
    here, there, *_ = stores
    await begin(there, "t-1")
    async with aclosing(SessionStream(here, SESSION).run()) as frames:
        await anext(frames)
        assert b"t-1" in await following(frames)


async def test_a_stream_tells_of_a_task_that_was_begun_while_redis_had_cut_it_off(
    stores: list[TaskStore], redis: Redis
) -> None:
    here, there, *_ = stores
    async with aclosing(SessionStream(here, SESSION).run()) as frames:
        await anext(frames)
        await begin(there, "t-1")
        assert b"t-1" in await following(frames)
        await there.create(NewTask("t-2", "wait", SESSION.principal, b"{}"))
        async with redis.pipeline() as pipe:  # so that no line can be back before the task is one of the session's
            pipe.client_kill_filter(_type="pubsub")
            pipe.hset(Keys().followed(SESSION.id), "t-2", "null")
            await pipe.execute()
        assert b"t-2" in await following(frames)


async def test_a_stream_that_was_cut_off_when_a_younger_came_ends(stores: list[TaskStore], redis: Redis) -> None:
    here, there, *_ = stores
    async with (
        aclosing(SessionStream(here, SESSION).run()) as older,
        aclosing(SessionStream(there, SESSION).run()) as younger,
    ):
        await anext(older)
        await begin(there, "t-1")
        assert b"t-1" in await following(older)
        await redis.client_kill_filter(_type="pubsub")
        await anext(younger)
        with anyio.fail_after(10):
            assert [frame async for frame in older if b"t-1" not in frame] == []


async def begin(store: TaskStore, task_id: str) -> None:
    """A task of the session, as a replica begins it."""
    await store.create(NewTask(task_id, "wait", SESSION.principal, b"{}"))
    await store.sessions.follow(SESSION.id, task_id, None)


async def following(frames: AsyncIterator[bytes]) -> bytes:
    """The next frame."""
    with anyio.fail_after(10):
        return await anext(frames)
