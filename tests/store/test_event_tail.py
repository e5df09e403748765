"""Following a task's events: each once, in order, from any cursor, with one reader however many follow."""

import asyncio
from collections.abc import AsyncIterator, Awaitable

import pytest
from anyio import fail_after

from taskmill.engine.events import Event
from taskmill.engine.record import Progress
from taskmill.engine.status import Move
from tests.support.store_fixture import DONE, StoreFixture


async def taken(events: AsyncIterator[Event], count: int) -> list[int]:
    """The numbers of the next `count` events."""
    with fail_after(30):
        return [(await anext(events)).seq for _ in range(count)]


async def rest(events: AsyncIterator[Event]) -> list[int]:
    """The numbers of all events until the end."""
    with fail_after(30):
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
        with fail_after(30):
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
    with fail_after(30):
        async with stores.store.tails.follow(claimed.id, after=3):  # there is none yet
            await reading.wait()


class Taker:
    """Takes events, one of them only when it is let."""

    def __init__(self, *, waits_at: int = 0, fails_at: int = 0) -> None:
        self.numbers: list[int] = []
        self.takers: set[str] = set()
        """Names of the asyncio tasks that called it."""
        self.gate = asyncio.Event()
        self._waits_at = waits_at
        self._fails_at = fails_at
        self._changed = asyncio.Event()

    def __call__(self, event: Event) -> Awaitable[object] | None:
        """Take an event."""
        if event.seq == self._fails_at:
            raise OSError("it is closed")
        self.numbers.append(event.seq)
        task = asyncio.current_task()
        self.takers.add(task.get_name() if task else "")
        self._changed.set()
        self._changed = asyncio.Event()
        return self.gate.wait() if event.seq == self._waits_at else None

    async def got(self, count: int) -> None:
        """Return once it has taken so many."""
        with fail_after(30):
            while len(self.numbers) < count:
                await self._changed.wait()


async def test_events_are_handed_to_many_without_a_task_of_theirs_being_woken(stores: StoreFixture) -> None:
    claimed = await stores.start()
    takers = [Taker() for _ in range(120)]
    handing = [asyncio.create_task(stores.store.tails.hand_to(taker, claimed.id), name="own") for taker in takers]
    for taker in takers:
        await taker.got(2)
        taker.takers.clear()
    await stores.report((claimed.id, 1, Progress(1, 2)))
    for taker in takers:
        await taker.got(3)
    assert {name for taker in takers for name in taker.takers} == {"taskmill.tail"}
    await stores.finish(claimed)
    with fail_after(30):
        await asyncio.gather(*handing)
    assert [taker.numbers for taker in takers] == [[1, 2, 3, 4]] * 120


async def test_one_that_has_to_wait_for_an_event_holds_up_no_other_and_misses_nothing(stores: StoreFixture) -> None:
    claimed = await stores.start()
    slow, quick = Taker(waits_at=3), Taker()
    handing = [asyncio.create_task(stores.store.tails.hand_to(taker, claimed.id)) for taker in (slow, quick)]
    await slow.got(2)
    for step in range(100):
        await stores.report((claimed.id, 1, Progress(step)))
    await quick.got(102)
    assert slow.numbers == [1, 2, 3]
    slow.gate.set()
    await stores.finish(claimed)
    with fail_after(30):
        await asyncio.gather(*handing)
    assert slow.numbers == quick.numbers == list(range(1, 104))


async def test_what_one_raises_ends_its_own_call_only(stores: StoreFixture) -> None:
    claimed = await stores.start()
    broken, left, sound = Taker(fails_at=3), Taker(waits_at=3), Taker()
    tails = stores.store.tails
    failing, leaving, going_on = (
        asyncio.create_task(tails.hand_to(taker, claimed.id)) for taker in (broken, left, sound)
    )
    for taker in (broken, left, sound):
        await taker.got(2)
    await stores.report((claimed.id, 1, Progress(1)))
    await left.got(3)
    await sound.got(3)
    leaving.cancel()
    with fail_after(30), pytest.raises(OSError, match="closed"):
        await failing
    await stores.finish(claimed)
    with fail_after(30):
        await going_on
    assert (broken.numbers, left.numbers, sound.numbers) == ([1, 2], [1, 2, 3], [1, 2, 3, 4])
    assert leaving.cancelled()
    assert tails._tails == {}
