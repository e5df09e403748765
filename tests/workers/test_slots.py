"""Places: bounded, and given first to those that want theirs back, in the order in which they asked."""

import asyncio

from taskmill.workers.attempts.slots import Slots


class Bell:
    """Counts how often it was rung."""

    def __init__(self) -> None:
        self.rung = 0

    def __call__(self) -> None:
        self.rung += 1


async def test_a_place_that_is_given_up_is_free_for_somebody_new() -> None:
    bell = Bell()
    slots = Slots(2, bell)
    slots.take(2)
    assert slots.free == 0

    slots.give()

    assert (slots.free, bell.rung) == (1, 1)


async def test_who_wants_to_go_on_comes_before_who_is_new_and_in_turn() -> None:
    bell = Bell()
    slots = Slots(1, bell)
    slots.take()
    order: list[str] = []

    async def go_on(name: str) -> None:
        await slots.take_back()
        order.append(name)

    waiting = [asyncio.create_task(go_on(name)) for name in ("first", "second")]
    await asyncio.sleep(0)
    for _ in range(2):
        assert slots.free == 0
        slots.give()
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)

    assert (order, bell.rung) == (["first", "second"], 0)
    slots.give()
    assert (slots.free, bell.rung) == (1, 1)


async def test_who_stops_wanting_a_place_does_not_keep_it() -> None:
    slots = Slots(1, Bell())
    slots.take()
    leaves, stays = asyncio.create_task(slots.take_back()), asyncio.create_task(slots.take_back())
    await asyncio.sleep(0)
    leaves.cancel()
    await asyncio.wait([leaves])

    slots.give()

    await stays
    assert slots.free == 0
    slots.give()
    assert slots.free == 1


async def test_who_is_stopped_just_when_it_got_its_place_passes_it_on() -> None:
    slots = Slots(1, Bell())
    slots.take()
    leaves = asyncio.create_task(slots.take_back())
    await asyncio.sleep(0)
    slots.give()
    leaves.cancel()
    await asyncio.wait([leaves])

    assert slots.free == 1


async def test_places_that_were_never_used_are_no_news() -> None:
    """A worker that was told of its own claim's leftovers would claim again and again."""
    bell = Bell()
    slots = Slots(3, bell)
    slots.take(3)

    slots.put_back(2)

    assert (slots.free, bell.rung) == (2, 0)
