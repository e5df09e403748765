"""Following a task's events: each once, in order, from any cursor, with one reader however many follow."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from anyio import fail_after

from taskmill.engine.events import Event
from taskmill.engine.record import Progress
from taskmill.engine.status import Move
from tests.support.store_fixture import DONE, StoreFixture


async def taken(events: AsyncIterator[Event], count: int) -> list[int]:
    """The numbers of the next `count` events."""
    with fail_after(5):
        return [(await anext(events)).seq for _ in range(count)]


async def rest(events: AsyncIterator[Event]) -> list[int]:
    """The numbers of all events until the end."""
    with fail_after(5):
        return [event.seq async for event in events]


async def test_a_follower_gets_what_was_and_what_comes_and_then_the_end(stores: StoreFixture) -> None:
    claimed = await stores.start()
    async with stores.store.tails.follow(claimed.id) as events:
        assert await taken(events, 2) == [1, 2]
        await stores.report((claimed.id, 1, Progress(1, 2)))
        assert await taken(events, 1) == [3]
        await stores.finish(claimed)
        assert await rest(events) == [4]


@pytest.mark.parametrize("after", range(5))
async def test_every_cursor_gives_just_the_events_behind_it(stores: StoreFixture, after: int) -> None:
    claimed = await stores.start()
    await stores.report((claimed.id, 1, Progress(1, 2)))
    await stores.finish(claimed)
    async with stores.store.tails.follow(claimed.id, after=after) as events:
        assert await rest(events) == list(range(after + 1, 5))


async def test_a_cursor_beyond_the_end_and_a_task_that_is_gone_give_nothing(stores: StoreFixture) -> None:
    task_id = await stores.create()
    for gone, after in ((task_id, 9), ("never-was", 0), ("never-was", 3)):
        async with stores.store.tails.follow(gone, after=after) as events:
            assert await rest(events) == []


async def test_followers_of_one_task_share_its_reads(stores: StoreFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    claimed = await stores.start()
    reads = []
    read = stores.store.tails._read

    async def counting(task_id: str, after: int) -> list[Event]:
        reads.append(after)
        return await read(task_id, after)

    monkeypatch.setattr(stores.store.tails, "_read", counting)

    async def follow() -> list[int]:
        async with stores.store.tails.follow(claimed.id) as events:
            started.release()
            return await rest(events)

    started = asyncio.Semaphore(0)
    followers = [asyncio.create_task(follow()) for _ in range(50)]
    for _ in followers:
        await started.acquire()
    await stores.finish(claimed)

    assert await asyncio.gather(*followers) == [[1, 2, 3]] * 50
    assert len(reads) < 10


async def test_a_follower_that_fell_far_behind_misses_nothing(stores: StoreFixture) -> None:
    claimed = await stores.start()
    async with stores.store.tails.follow(claimed.id) as slow, stores.store.tails.follow(claimed.id) as quick:
        assert await taken(slow, 1) == [1]
        for step in range(200):
            await stores.report((claimed.id, 1, Progress(step)))
        assert await taken(quick, 202) == list(range(1, 203))
        await stores.finish(claimed, DONE)
        assert await rest(slow) == list(range(2, 204))


async def test_nothing_is_left_running_when_the_last_follower_has_gone(stores: StoreFixture) -> None:
    claimed = await stores.start()
    async with stores.store.tails.follow(claimed.id) as events:
        assert await taken(events, 1) == [1]
    assert stores.store.tails._tails == {}
    assert [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "taskmill.tail"] == []


async def test_the_last_event_shows_how_the_task_ended(stores: StoreFixture) -> None:
    claimed = await stores.start()
    await stores.finish(claimed)
    async with stores.store.tails.follow(claimed.id, after=2) as events:
        with fail_after(5):
            assert (await anext(events)).move is Move.COMPLETE


async def test_leaving_ends_a_reader_whose_cancel_was_swallowed(
    stores: StoreFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py swallows a cancel that comes while it probes a connection; its caller must not wait for ever."""
    claimed = await stores.start()
    reading = asyncio.Event()
    read = stores.store.tails._read

    async def swallowing(task_id: str, after: int) -> list[Event]:
        if fresh := await read(task_id, after):
            return fresh
        reading.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return []
        raise AssertionError("it was not cancelled")

    monkeypatch.setattr(stores.store.tails, "_read", swallowing)
    with fail_after(5):
        async with stores.store.tails.follow(claimed.id):
            await reading.wait()
