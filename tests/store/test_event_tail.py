"""Following a task's events: each once, in order, from any cursor, with one reader however many follow."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from anyio import fail_after

from taskmill.engine.events import Event
from taskmill.engine.record import Progress
from taskmill.engine.status import Move
from tests.support.store_fixture import DONE, Depot


async def taken(events: AsyncIterator[Event], count: int) -> list[int]:
    """The numbers of the next `count` events."""
    with fail_after(5):
        return [(await anext(events)).seq for _ in range(count)]


async def rest(events: AsyncIterator[Event]) -> list[int]:
    """The numbers of all events until the end."""
    with fail_after(5):
        return [event.seq async for event in events]


async def test_a_follower_gets_what_was_and_what_comes_and_then_the_end(depot: Depot) -> None:
    claimed = await depot.start()
    async with depot.store.tails.follow(claimed.id) as events:
        assert await taken(events, 2) == [1, 2]
        await depot.report((claimed.id, 1, Progress(1, 2)))
        assert await taken(events, 1) == [3]
        await depot.finish(claimed)
        assert await rest(events) == [4]


@pytest.mark.parametrize("after", range(5))
async def test_every_cursor_gives_just_the_events_behind_it(depot: Depot, after: int) -> None:
    claimed = await depot.start()
    await depot.report((claimed.id, 1, Progress(1, 2)))
    await depot.finish(claimed)
    async with depot.store.tails.follow(claimed.id, after=after) as events:
        assert await rest(events) == list(range(after + 1, 5))


async def test_a_cursor_beyond_the_end_and_a_task_that_is_gone_give_nothing(depot: Depot) -> None:
    task_id = await depot.create()
    for gone, after in ((task_id, 9), ("never-was", 0), ("never-was", 3)):
        async with depot.store.tails.follow(gone, after=after) as events:
            assert await rest(events) == []


async def test_followers_of_one_task_share_its_reads(depot: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    claimed = await depot.start()
    reads = []
    read = depot.store.tails._read

    async def counting(task_id: str, after: int) -> list[Event]:
        reads.append(after)
        return await read(task_id, after)

    monkeypatch.setattr(depot.store.tails, "_read", counting)

    async def follow() -> list[int]:
        async with depot.store.tails.follow(claimed.id) as events:
            started.release()
            return await rest(events)

    started = asyncio.Semaphore(0)
    followers = [asyncio.create_task(follow()) for _ in range(50)]
    for _ in followers:
        await started.acquire()
    await depot.finish(claimed)

    assert await asyncio.gather(*followers) == [[1, 2, 3]] * 50
    assert len(reads) < 10


async def test_a_follower_that_fell_far_behind_misses_nothing(depot: Depot) -> None:
    claimed = await depot.start()
    async with depot.store.tails.follow(claimed.id) as slow, depot.store.tails.follow(claimed.id) as quick:
        assert await taken(slow, 1) == [1]
        for step in range(200):
            await depot.report((claimed.id, 1, Progress(step)))
        assert await taken(quick, 202) == list(range(1, 203))
        await depot.finish(claimed, DONE)
        assert await rest(slow) == list(range(2, 204))


async def test_nothing_is_left_running_when_the_last_follower_has_gone(depot: Depot) -> None:
    claimed = await depot.start()
    async with depot.store.tails.follow(claimed.id) as events:
        assert await taken(events, 1) == [1]
    assert depot.store.tails._tails == {}
    assert [task.get_name() for task in asyncio.all_tasks() if task.get_name() == "taskmill.tail"] == []


async def test_the_last_event_says_how_the_task_ended(depot: Depot) -> None:
    claimed = await depot.start()
    await depot.finish(claimed)
    async with depot.store.tails.follow(claimed.id, after=2) as events:
        with fail_after(5):
            assert (await anext(events)).move is Move.COMPLETE


async def test_leaving_ends_a_reader_whose_cancel_was_swallowed(depot: Depot, monkeypatch: pytest.MonkeyPatch) -> None:
    """redis-py swallows a cancel that comes while it probes a connection; whoever leaves must not wait for ever."""
    claimed = await depot.start()
    reading = asyncio.Event()
    read = depot.store.tails._read

    async def swallowing(task_id: str, after: int) -> list[Event]:
        if fresh := await read(task_id, after):
            return fresh
        reading.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return []
        raise AssertionError("nobody cancelled it")

    monkeypatch.setattr(depot.store.tails, "_read", swallowing)
    with fail_after(5):
        async with depot.store.tails.follow(claimed.id):
            await reading.wait()
