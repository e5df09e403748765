"""Slots: bounded, and given first to attempts that go on, in the order in which they asked."""

import asyncio

from taskmill.workers.attempts.slots import Slots


class FreeCount:
    """Counts how often it was called."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


async def test_a_released_slot_is_free_for_a_new_attempt() -> None:
    on_free = FreeCount()
    slots = Slots(2, on_free)
    slots.take(2)
    assert slots.free == 0

    slots.release()

    assert (slots.free, on_free.count) == (1, 1)


async def test_attempts_that_go_on_come_before_new_ones_and_in_order() -> None:
    on_free = FreeCount()
    slots = Slots(1, on_free)
    slots.take()
    order: list[str] = []

    async def resume(name: str) -> None:
        await slots.take_again()
        order.append(name)

    waiting = [asyncio.create_task(resume(name)) for name in ("first", "second")]
    await asyncio.sleep(0)
    for _ in range(2):
        assert slots.free == 0
        slots.release()
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)

    assert (order, on_free.count) == (["first", "second"], 0)
    slots.release()
    assert (slots.free, on_free.count) == (1, 1)


async def test_an_attempt_that_stops_waiting_for_a_slot_does_not_get_it() -> None:
    slots = Slots(1, FreeCount())
    slots.take()
    leaves, stays = asyncio.create_task(slots.take_again()), asyncio.create_task(slots.take_again())
    await asyncio.sleep(0)
    leaves.cancel()
    await asyncio.wait([leaves])

    slots.release()

    await stays
    assert slots.free == 0
    slots.release()
    assert slots.free == 1


async def test_an_attempt_that_is_stopped_just_when_it_got_a_slot_releases_it() -> None:
    slots = Slots(1, FreeCount())
    slots.take()
    leaves = asyncio.create_task(slots.take_again())
    await asyncio.sleep(0)
    slots.release()
    leaves.cancel()
    await asyncio.wait([leaves])

    assert slots.free == 1


async def test_releasing_unused_slots_does_not_call_on_free() -> None:
    """A worker that was woken for the slots its own claim did not use would claim again and again."""
    on_free = FreeCount()
    slots = Slots(3, on_free)
    slots.take(3)

    slots.release_unused(2)

    assert (slots.free, on_free.count) == (2, 0)
