"""Slots of a worker that only callers with nothing running on it get."""

from taskmill.engine.principal import ANONYMOUS, principal_of
from taskmill.store.claims.claims import Claims, Reserve
from tests.support.store_fixture import OWNER, STRANGER, StoreFixture

THIRD = principal_of("https://issuer.example", "desktop", "cid")


async def claim(stores: StoreFixture, room: int, slots: int, *holders: str, look_from: int = 0) -> Claims:
    """A claim by a worker that runs tasks of `holders`."""
    call = stores.ann.claim_call("default", room, reserve=Reserve(slots, holders, look_from))
    _, claims = await stores.ann.run_batch([], call)
    assert claims is not None
    return claims


def ids(claims: Claims) -> list[str]:
    return [task.id for task in claims.tasks]


async def create(stores: StoreFixture, count: int, principal: str = OWNER) -> list[str]:
    return [await stores.create(principal=principal) for _ in range(count)]


async def test_a_caller_does_not_get_the_reserved_slots_besides_others(stores: StoreFixture) -> None:
    mine = await create(stores, 5)

    first = await claim(stores, 4, 1)
    second = await claim(stores, 1, 1, OWNER)

    assert (ids(first), ids(second)) == (mine[:3], [])
    assert second.look_next == 0
    assert second.wait_ms != 0  # else it would ask again at once


async def test_a_caller_with_nothing_running_gets_a_reserved_slot_at_once(stores: StoreFixture) -> None:
    await create(stores, 300)
    await claim(stores, 4, 1)
    (theirs,) = await create(stores, 1, STRANGER)

    assert ids(await claim(stores, 1, 1, OWNER)) == [theirs]


async def test_only_its_first_task_gets_a_reserved_slot(stores: StoreFixture) -> None:
    await claim(stores, 4, 1)
    theirs = await create(stores, 3, STRANGER)
    (third,) = await create(stores, 1, THIRD)

    assert ids(await claim(stores, 2, 2)) == [theirs[0], third]


async def test_a_caller_that_is_alone_gets_every_other_slot(stores: StoreFixture) -> None:
    mine = await create(stores, 9)

    assert ids(await claim(stores, 5, 0)) + ids(await claim(stores, 5, 1, OWNER)) == mine


async def test_callers_without_authentication_leave_no_slot(stores: StoreFixture) -> None:
    mine = await create(stores, 4, ANONYMOUS)

    assert ids(await claim(stores, 4, 1)) == mine


async def test_tasks_in_reserved_slots_move_no_one_else_back_however_many_they_are(stores: StoreFixture) -> None:
    """One after the other, for hours, beside a caller whose long tasks have every other slot."""
    await create(stores, 300)
    for _ in range(400):
        (theirs,) = await create(stores, 1, STRANGER)
        assert ids(await claim(stores, 1, 1, OWNER)) == [theirs]

    (third,) = await create(stores, 1, THIRD)
    assert ids(await claim(stores, 1, 1, OWNER)) == [third]


async def test_a_task_far_behind_is_found_by_looking_further_each_time(stores: StoreFixture) -> None:
    mine = await create(stores, 50)
    theirs = [await stores.create(principal=STRANGER, priority=-5) for _ in range(2)]
    mine += await create(stores, 400)

    found: list[str] = []
    look_from = looks = 0
    while len(found) < 2:
        claims = await claim(stores, 1, 1, OWNER, look_from=look_from)
        look_from = claims.look_next or 0
        found += ids(claims)
        looks += 1
        assert looks < 12

    assert found == theirs


async def test_tasks_that_were_left_wake_other_workers_and_keep_their_order(stores: StoreFixture) -> None:
    mine = await create(stores, 3)
    await stores.redis.delete(stores.keys.wake("default"))

    await claim(stores, 1, 1, OWNER)

    assert await stores.redis.llen(stores.keys.wake("default")) == 1
    _, claims = await stores.bob.run_batch([], stores.bob.claim_call("default", 5))
    assert claims is not None
    assert ids(claims) == mine


async def test_a_claim_without_reserved_slots_costs_no_command_more(stores: StoreFixture) -> None:
    await create(stores, 10)
    await stores.redis.config_resetstat()

    await claim(stores, 5, 0)

    stats = await stores.redis.info("commandstats")
    assert stats["cmdstat_hget"]["calls"] <= 1
