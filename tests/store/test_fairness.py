"""The order of the queue: fair between principals, then by priority, else first come first served."""

from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmill.engine.principal import principal_of
from taskmill.store.tasks.creation import creation
from tests.support.ordering_model import Line
from tests.support.store_fixture import OWNER, STRANGER, Depot


async def create(depot: Depot, count: int, principal: str = OWNER, priority: int = 0) -> list[str]:
    return [await depot.create(principal=principal, priority=priority) for _ in range(count)]


async def claimed(depot: Depot, room: int = 1) -> list[str]:
    return [task.id for task in (await depot.claim(room=room)).tasks]


async def test_one_task_of_a_second_principal_is_next_behind_ten_thousand_of_the_first(depot: Depot) -> None:
    await create(depot, 300)
    busy = await claimed(depot, 10)

    (one,) = await create(depot, 1, STRANGER)

    assert len(busy) == 10
    assert await claimed(depot) == [one]


async def test_principals_with_many_tasks_take_turns(depot: Depot) -> None:
    mine, theirs = await create(depot, 20), await create(depot, 20, STRANGER)

    order = await claimed(depot, 40)

    assert [task for task in order if task in mine] == mine
    assert [task for task in order if task in theirs] == theirs
    for upto in range(1, 41):
        shares = Counter(task in theirs for task in order[:upto])
        assert abs(shares[True] - shares[False]) <= 1


async def test_principals_with_a_task_each_are_served_in_the_order_they_came(depot: Depot) -> None:
    await create(depot, 5)
    tasks = [await depot.create(principal=principal_of("i", "c", str(n))) for n in range(30)]
    await claimed(depot, 1)

    order = await claimed(depot, 40)

    assert [task for task in order if task in tasks] == tasks


async def test_a_principal_that_was_alone_for_long_is_not_made_to_pay_for_it(depot: Depot) -> None:
    for _ in range(3):
        await create(depot, 20)
        await claimed(depot, 20)
    mine, theirs = await create(depot, 2), await create(depot, 2, STRANGER)

    order = await claimed(depot, 4)

    assert {order[0], order[1]} == {mine[0], theirs[0]}


async def test_a_higher_priority_overtakes_what_waits_and_a_lower_one_stands_back(depot: Depot) -> None:
    normal, low, high = await create(depot, 20), await create(depot, 5, priority=-1), await create(depot, 5, priority=1)

    assert await claimed(depot, 30) == [*high, *normal, *low]


async def test_a_flood_of_higher_priority_starves_nobody(depot: Depot) -> None:
    low = await create(depot, 1)
    await create(depot, 400, priority=1)

    order = await claimed(depot, 401)

    assert 150 <= order.index(low[0]) <= 250  # a head start of 100 places, at two tasks a place


async def test_a_given_back_task_stands_in_front_again(depot: Depot) -> None:
    first, *others = await create(depot, 5)
    task = await depot.take(first)

    await depot.release(task)

    assert await claimed(depot, 5) == [first, *others]


async def test_a_retry_whose_delay_is_over_lines_up_and_overtakes_nobody(depot: Depot) -> None:
    """A task that nobody here can run comes back every two seconds: it must not keep the others from their turn."""
    delayed = await depot.start()
    await depot.release(delayed, delay=3600)
    others = await create(depot, 3)
    await depot.redis.zadd(depot.keys.queue("default"), {delayed.id: await depot.now_ms() - 1})

    assert await claimed(depot, 2) == others[:2]
    assert await claimed(depot, 5) == [others[2], delayed.id]


async def test_a_lapsed_lease_comes_before_everybody_who_waits(depot: Depot) -> None:
    """A dead worker's task runs again within the lease plus a poll, however long the queue is."""
    dead = await depot.start()
    await create(depot, 50)
    await depot.redis.zadd(depot.keys.queue("default"), {dead.id: await depot.now_ms() - 1})

    assert await claimed(depot) == [dead.id]


async def test_every_waiting_task_is_due_for_a_stock_arq_worker(depot: Depot) -> None:
    """arq takes what has a score up to now."""
    tasks = [*await create(depot, 3), *await create(depot, 3, STRANGER, 5), *await create(depot, 3, STRANGER, -5)]

    due = await depot.redis.zrangebyscore(depot.keys.queue("default"), "-inf", await depot.now_ms())

    assert {task.decode() for task in due} == set(tasks)
    assert [task.id for task in (await depot.claim(ids=[tasks[4]])).tasks] == [tasks[4]]


async def test_nothing_is_remembered_of_a_line_when_nobody_is_left_in_it(depot: Depot) -> None:
    await create(depot, 3)
    assert await depot.redis.exists(depot.keys.pace("default"))

    await claimed(depot, 3)

    assert not await depot.redis.exists(depot.keys.pace("default"))


async def test_a_line_that_is_never_empty_forgets_whom_it_has_served(depot: Depot) -> None:
    pace = depot.keys.pace("default")
    await create(depot, 4)
    await depot.redis.hset(pace, mapping={f"{n} 0": 0.5 for n in range(3000)})  # type: ignore[misc]
    await claimed(depot, 2)

    await depot.ann.reconcile(timedelta(hours=1))

    assert 2000 < await depot.redis.hlen(pace) <= 2600  # type: ignore[misc]
    assert await depot.redis.hexists(pace, f"{OWNER} 0")  # type: ignore[misc]


@pytest.mark.parametrize("queued", [100, 20_000])
async def test_a_claim_costs_the_same_however_many_wait(depot: Depot, queued: int) -> None:
    """Counted in commands, which are each logarithmic at worst; the time is measured by the bench."""
    calls = [
        ("create", [depot.keys.record(task.id)], creation(task, depot.settings))
        for task in [depot.task() for _ in range(queued)]
    ]
    for at in range(0, queued, 2000):
        await depot.ann.scripts.run_many(depot.redis, calls[at : at + 2000])
    await depot.redis.config_resetstat()

    assert len(await claimed(depot, 10)) == 10

    stats = await depot.redis.info("commandstats")
    used = sum(said["calls"] for name, said in stats.items() if name not in ("cmdstat_info", "cmdstat_config"))
    assert used < 90
    await depot.redis.flushall()


FLOWS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(-2, 2)), min_size=1, max_size=60)


@given(arrivals=FLOWS)
def test_nobody_waits_for_more_than_his_share(arrivals: list[tuple[str, int]]) -> None:
    """At equal priority: with k tasks of one's own before, for at most k + 1 of each other principal."""
    line = Line()
    order = sorted((line.place(who), at) for at, (who, _) in enumerate(arrivals))
    ranks = [at for _, at in order]
    for place, at in enumerate(ranks):
        who = arrivals[at][0]
        before = Counter(arrivals[other][0] for other in ranks[:place])
        assert all(count <= before[who] + 1 for other, count in before.items() if other != who)
