"""The order of the queue: fair between principals, then by priority, else first come first served."""

from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmill.engine.principal import principal_of
from taskmill.store.tasks.creation import create_args
from tests.support.ordering_model import OrderingModel
from tests.support.store_fixture import OWNER, STRANGER, StoreFixture


async def create(stores: StoreFixture, count: int, principal: str = OWNER, priority: int = 0) -> list[str]:
    return [await stores.create(principal=principal, priority=priority) for _ in range(count)]


async def claimed(stores: StoreFixture, room: int = 1) -> list[str]:
    return [task.id for task in (await stores.claim(room=room)).tasks]


async def test_one_task_of_a_second_principal_is_next_behind_ten_thousand_of_the_first(stores: StoreFixture) -> None:
    await create(stores, 300)
    busy = await claimed(stores, 10)

    (one,) = await create(stores, 1, STRANGER)

    assert len(busy) == 10
    assert await claimed(stores) == [one]


async def test_principals_with_many_tasks_alternate(stores: StoreFixture) -> None:
    mine, theirs = await create(stores, 20), await create(stores, 20, STRANGER)

    order = await claimed(stores, 40)

    assert [task for task in order if task in mine] == mine
    assert [task for task in order if task in theirs] == theirs
    for upto in range(1, 41):
        shares = Counter(task in theirs for task in order[:upto])
        assert abs(shares[True] - shares[False]) <= 1


async def test_principals_with_a_task_each_are_served_in_the_order_they_came(stores: StoreFixture) -> None:
    await create(stores, 5)
    tasks = [await stores.create(principal=principal_of("i", "c", str(n))) for n in range(30)]
    await claimed(stores, 1)

    order = await claimed(stores, 40)

    assert [task for task in order if task in tasks] == tasks


async def test_a_principal_that_was_alone_for_long_is_not_made_to_pay_for_it(stores: StoreFixture) -> None:
    for _ in range(3):
        await create(stores, 20)
        await claimed(stores, 20)
    mine, theirs = await create(stores, 2), await create(stores, 2, STRANGER)

    order = await claimed(stores, 4)

    assert {order[0], order[1]} == {mine[0], theirs[0]}


async def test_a_higher_priority_overtakes_what_waits_and_a_lower_one_stands_back(stores: StoreFixture) -> None:
    normal, low, high = (
        await create(stores, 20),
        await create(stores, 5, priority=-1),
        await create(stores, 5, priority=1),
    )

    assert await claimed(stores, 30) == [*high, *normal, *low]


async def test_a_flood_of_higher_priority_starves_no_principal(stores: StoreFixture) -> None:
    low = await create(stores, 1)
    await create(stores, 400, priority=1)

    order = await claimed(stores, 401)

    assert 150 <= order.index(low[0]) <= 250  # a head start of 100 places, at two tasks a place


async def test_a_given_back_task_stands_in_front_again(stores: StoreFixture) -> None:
    first, *others = await create(stores, 5)
    task = await stores.take(first)

    await stores.release(task)

    assert await claimed(stores, 5) == [first, *others]


async def test_a_retry_whose_delay_is_over_joins_the_order_and_overtakes_no_task(stores: StoreFixture) -> None:
    """A task that no worker here can run comes back every two seconds: it must not delay the others."""
    delayed = await stores.start()
    await stores.release(delayed, delay=3600)
    others = await create(stores, 3)
    await stores.redis.zadd(stores.keys.queue("default"), {delayed.id: await stores.now_ms() - 1})

    assert await claimed(stores, 2) == others[:2]
    assert await claimed(stores, 5) == [others[2], delayed.id]


async def test_a_lapsed_lease_comes_before_all_that_wait(stores: StoreFixture) -> None:
    """A dead worker's task runs again within the lease plus a poll, however long the queue is."""
    dead = await stores.start()
    await create(stores, 50)
    await stores.redis.zadd(stores.keys.queue("default"), {dead.id: await stores.now_ms() - 1})

    assert await claimed(stores) == [dead.id]


async def test_every_waiting_task_is_due_for_a_stock_arq_worker(stores: StoreFixture) -> None:
    """arq takes what has a score up to now."""
    tasks = [*await create(stores, 3), *await create(stores, 3, STRANGER, 5), *await create(stores, 3, STRANGER, -5)]

    due = await stores.redis.zrangebyscore(stores.keys.queue("default"), "-inf", await stores.now_ms())

    assert {task.decode() for task in due} == set(tasks)
    assert [task.id for task in (await stores.claim(ids=[tasks[4]])).tasks] == [tasks[4]]


async def test_nothing_is_remembered_of_an_ordering_without_tasks(stores: StoreFixture) -> None:
    await create(stores, 3)
    assert await stores.redis.exists(stores.keys.ordering("default"))

    await claimed(stores, 3)

    assert not await stores.redis.exists(stores.keys.ordering("default"))


async def test_an_ordering_that_is_never_empty_forgets_principals_it_has_served(stores: StoreFixture) -> None:
    pace = stores.keys.ordering("default")
    await create(stores, 4)
    await stores.redis.hset(pace, mapping={f"{n} 0": 0.5 for n in range(3000)})  # type: ignore[misc]
    await claimed(stores, 2)

    await stores.ann.reconcile(timedelta(hours=1))

    assert 2000 < await stores.redis.hlen(pace) <= 2600  # type: ignore[misc]
    for _ in range(4):
        await stores.redis.delete(stores.keys.reconciling)
        await stores.ann.reconcile(timedelta(hours=1))
    for kept in (f"{OWNER} 0", "served", "latest"):
        assert await stores.redis.hexists(pace, kept), kept  # type: ignore[misc]


@pytest.mark.parametrize("queued", [100, 20_000])
async def test_a_claim_costs_the_same_however_many_wait(stores: StoreFixture, queued: int) -> None:
    """Counted in commands, which are each logarithmic at worst; the time is measured by the bench."""
    calls = [
        ("create", [stores.keys.record(task.id)], create_args(task, stores.settings))
        for task in [stores.task() for _ in range(queued)]
    ]
    for at in range(0, queued, 2000):
        await stores.ann.scripts.run_many(stores.redis, calls[at : at + 2000])
    await stores.redis.config_resetstat()

    assert len(await claimed(stores, 10)) == 10

    stats = await stores.redis.info("commandstats")
    used = sum(stat["calls"] for name, stat in stats.items() if name not in ("cmdstat_info", "cmdstat_config"))
    assert used < 90
    await stores.redis.flushall()


FLOWS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(-2, 2)), min_size=1, max_size=60)


@given(arrivals=FLOWS)
def test_no_principal_waits_for_more_than_its_share(arrivals: list[tuple[str, int]]) -> None:
    """At equal priority: with k tasks of one's own before, for at most k + 1 of each other principal."""
    line = OrderingModel()
    order = sorted((line.place(who), at) for at, (who, _) in enumerate(arrivals))
    ranks = [at for _, at in order]
    for place, at in enumerate(ranks):
        who = arrivals[at][0]
        before = Counter(arrivals[other][0] for other in ranks[:place])
        assert all(count <= before[who] + 1 for other, count in before.items() if other != who)
