"""Firings of schedules: each makes one task, however many workers ask, in whatever order, and however late."""

import asyncio

import pytest

from taskmill.engine.errors import QuotaExceeded
from taskmill.engine.principal import SCHEDULE, PrincipalLimits
from taskmill.engine.record import Firing, NewTask
from taskmill.store.tasks.schedules import firing_id
from tests.support.store_fixture import StoreFixture

NAME, SPEC = "app/count", '{"every_ms":1000,"missed":"skip"}'


def firing(stores: StoreFixture, at_ms: int) -> NewTask:
    made = Firing(NAME, at_ms, SPEC)
    task_id = firing_id(NAME, at_ms, "home")
    return stores.task(id=task_id, principal=SCHEDULE, firing=made, limits=PrincipalLimits())


async def test_a_firing_makes_one_task_however_many_workers_ask(stores: StoreFixture) -> None:
    await stores.store.scheduling.begin(NAME, SPEC)
    now = await stores.now_ms() + 1000

    made = await asyncio.gather(*(stores.store.fire(firing(stores, now)) for _ in range(10)))

    assert sorted(made) == [False] * 9 + [True]
    (known,) = await stores.store.schedules()
    assert (known.name, known.last_ms, known.seen_ms, known.schedule) == (NAME, now, now, SPEC)
    assert known.last_task == firing_id(NAME, now, "home")
    assert (await stores.record(known.last_task)).principal == SCHEDULE


async def test_a_firing_is_not_made_again_once_its_task_has_expired(stores: StoreFixture) -> None:
    """A worker that was stopped for longer than the retention asks late."""
    await stores.store.scheduling.begin(NAME, SPEC)
    now = await stores.now_ms() + 1000
    assert await stores.store.fire(firing(stores, now))
    claimed = await stores.take(firing_id(NAME, now, "home"))
    await stores.finish(claimed)
    await stores.redis.delete(*(key for key in await stores.redis.keys("*") if claimed.id.encode() in key))

    assert not await stores.store.fire(firing(stores, now))
    assert not await stores.store.fire(firing(stores, now - 1000)), "nor an earlier one"
    assert await stores.store.fire(firing(stores, now + 1000))
    await stores.redis.zrem(stores.keys.all, claimed.id)
    await stores.redis.zrem(stores.keys.fading, claimed.id)


async def test_a_firing_that_is_refused_can_still_be_made(stores: StoreFixture) -> None:
    full = stores.with_settings(open_limit_total=1)
    other = await stores.create()
    await stores.store.scheduling.begin(NAME, SPEC)
    now = await stores.now_ms() + 1000

    with pytest.raises(QuotaExceeded):
        await full.store.fire(firing(stores, now))

    await stores.finish(await stores.take(other))
    assert await full.store.fire(firing(stores, now))


async def test_a_schedule_begins_when_it_is_new_or_has_changed_and_never_goes_back(stores: StoreFixture) -> None:
    scheduling, changed = stores.store.scheduling, SPEC.replace("1000", "2000")
    assert await scheduling.begin(NAME, SPEC) == "new"
    assert await scheduling.begin(NAME, SPEC) == "known"
    ahead = await stores.now_ms() + 60_000
    await stores.store.fire(firing(stores, ahead))

    assert await scheduling.begin(NAME, changed) == "changed"

    (known,) = await stores.store.schedules()
    assert (known.seen_ms, known.last_ms, known.schedule) == (ahead, ahead, changed)
    seen = await scheduling.seen([NAME, "app/other"])
    assert seen.schedules == {NAME: known}
    assert not seen.is_paused("app", "count", "default")


async def test_what_another_program_wrote_among_the_schedules_is_left_out(stores: StoreFixture) -> None:
    await stores.store.scheduling.begin(NAME, SPEC)
    for number, wrong in enumerate(("", "soon - {}", "1 x@y {}")):
        await stores.redis.hset(stores.keys.schedules, f"app/{number}", wrong)  # type: ignore[misc]
    assert [one.name for one in await stores.store.schedules()] == [NAME]
    assert list((await stores.store.scheduling.seen(["app/0", NAME])).schedules) == [NAME]
