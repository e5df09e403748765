"""Lanes: of the tasks that share a key so many run at once, or start in a while; the others delay no other task."""

import asyncio
from datetime import timedelta

import pytest

from taskmill.engine.outcome import Failed, Fault
from taskmill.engine.record import Lane
from taskmill.engine.status import Status
from taskmill.store.claims.claims import Claimed
from tests.support.store_fixture import DONE, OWNER, STRANGER, StoreFixture, question

ONE = Lane("one", 1)
TWO = Lane("two", 2)


async def claimed(stores: StoreFixture, room: int = 10) -> list[str]:
    return [task.id for task in (await stores.claim(room=room)).tasks]


async def leave(stores: StoreFixture, task: Claimed, how: str) -> None:
    """Each way in which a task can give up its place in a lane."""
    if how == "finish":
        await stores.finish(task)
    elif how == "fail":
        await stores.finish(task, Failed(Fault.TIMEOUT, "too long"))
    elif how == "cancel":
        await stores.store.cancel(task.id, OWNER)
    elif how == "delay":
        await stores.release(task, delay=3600)
    elif how == "park":
        await stores.ann.ask(task.id, task.fence, [question(1)])
        assert await stores.run(stores.ann.park_call(task.id, task.fence)) == [b"parked"]
    else:
        for _ in range(stores.settings.crash_limit + 1):
            await stores.lapse(task.id)
            await stores.claim(ids=[task.id])


async def test_so_many_tasks_of_a_lane_run_at_once_and_the_next_starts_when_one_ends(stores: StoreFixture) -> None:
    tasks = [await stores.create(lane=TWO) for _ in range(5)]

    first = (await stores.claim(room=10)).tasks
    await stores.finish(first[1])

    assert [task.id for task in first] == tasks[:2]
    assert await claimed(stores) == [tasks[2]]


async def test_tasks_that_wait_for_their_lane_do_not_stand_in_the_way_of_others(stores: StoreFixture) -> None:
    for _ in range(50):
        await stores.create(lane=ONE)
    free = [await stores.create() for _ in range(3)]
    other = await stores.create(lane=TWO)

    assert set(await claimed(stores)) >= {*free, other}
    assert (await stores.claim(room=10)).wait_ms not in (0, None)  # no worker should claim again at once


@pytest.mark.parametrize("how", ["finish", "fail", "cancel", "delay", "park", "poison"])
async def test_a_slot_of_a_lane_is_free_again_however_its_task_leaves_it(stores: StoreFixture, how: str) -> None:
    holder = await stores.start(lane=ONE)
    waiting = [await stores.create(lane=ONE) for _ in range(2)]

    await leave(stores, holder, how)

    assert await claimed(stores) == waiting[:1]


async def test_a_dead_workers_task_keeps_its_slot_and_is_the_one_that_runs_again(stores: StoreFixture) -> None:
    """The slot belongs to the task: a lapsed lease gives it to the next worker, and no second task runs."""
    holder = await stores.start(lane=ONE)
    waiting = await stores.create(lane=ONE)
    await stores.lapse(holder.id)

    (again,) = (await stores.claim(stores.bob, 10)).tasks
    assert again.id == holder.id
    assert await stores.finish(holder) == "lost"
    assert await claimed(stores) == []

    await stores.finish(again)
    assert await claimed(stores) == [waiting]


async def test_a_task_that_is_cancelled_while_it_waits_for_its_lane_is_gone_from_it(stores: StoreFixture) -> None:
    holder = await stores.start(lane=ONE)
    unwanted, wanted = await stores.create(lane=ONE), await stores.create(lane=ONE)

    await stores.store.cancel(unwanted, OWNER)
    await stores.finish(holder)

    assert await claimed(stores) == [wanted]


async def test_a_task_that_comes_back_waits_if_its_slot_was_taken(stores: StoreFixture) -> None:
    holder = await stores.start(lane=ONE)
    second = await stores.create(lane=ONE)
    await stores.ann.ask(holder.id, holder.fence, [question(1)])
    await stores.run(stores.ann.park_call(holder.id, holder.fence))
    (running,) = (await stores.claim(room=10)).tasks

    await stores.store.answer(holder.id, OWNER, {"input-1": {}})
    third = await stores.create(lane=ONE)
    assert await claimed(stores) == []
    await stores.finish(running)

    assert running.id == second
    assert await claimed(stores) == [holder.id]  # it was in front before the third came
    assert (await stores.record(third)).status is Status.PENDING


async def test_a_released_task_keeps_its_slot(stores: StoreFixture) -> None:
    holder = await stores.start(lane=ONE)
    await stores.create(lane=ONE)

    await stores.release(holder)

    assert await claimed(stores) == [holder.id]


async def test_a_lane_is_fair_between_principals_too(stores: StoreFixture) -> None:
    holder = await stores.start(lane=ONE)
    for _ in range(20):
        await stores.create(lane=ONE)
    theirs = await stores.create(lane=ONE, principal=STRANGER)

    await stores.finish(holder)
    (second,) = (await stores.claim(room=10)).tasks
    await stores.finish(second)

    assert theirs in [second.id, *await claimed(stores)]


async def test_a_waiting_task_shows_how_many_are_ahead(stores: StoreFixture) -> None:
    await stores.start(lane=TWO)
    await stores.start(lane=TWO)
    waiting = [await stores.store.create(stores.task(lane=TWO)) for _ in range(3)]

    assert [view.ahead for view in waiting] == [2, 3, 4]
    assert (await stores.read(waiting[2].record.id)).ahead == 4


async def test_lanes_of_two_queues_are_one(stores: StoreFixture) -> None:
    holder = await stores.start(lane=ONE)
    elsewhere = await stores.create(lane=ONE, queue="slow")
    call = stores.ann.claim_call("slow", 5)
    _, before = await stores.ann.run_batch([], call)
    _, after = await stores.ann.run_batch([stores.ann.finish_call(holder.id, holder.fence, DONE)], call)

    assert before is not None
    assert before.tasks == []
    assert after is not None
    assert [task.id for task in after.tasks] == [elsewhere]


async def test_an_idle_worker_is_woken_when_a_slot_is_given_on(stores: StoreFixture) -> None:
    holder = await stores.start(lane=ONE)
    await stores.create(lane=ONE)
    await stores.redis.delete(stores.keys.wake("default"))

    await stores.finish(holder)

    assert await stores.redis.llen(stores.keys.wake("default")) == 1  # type: ignore[misc]


async def test_a_slot_whose_task_was_deleted_is_given_on(stores: StoreFixture) -> None:
    gone = await stores.start(lane=ONE)
    await stores.redis.delete(stores.keys.record(gone.id))

    after = await stores.create(lane=ONE)

    assert await claimed(stores) == [after]
    await stores.redis.flushall()


async def test_reconcile_leaves_a_full_lane_alone_and_brings_back_what_could_run(stores: StoreFixture) -> None:
    await stores.start(lane=ONE)
    waiting = await stores.create(lane=ONE)
    assert await stores.ann.reconcile(timedelta(hours=1)) == 0

    await stores.redis.delete(stores.keys.lane(ONE.key), stores.keys.reconciling)
    assert await stores.ann.reconcile(timedelta(hours=1)) == 1

    assert await stores.redis.exists(stores.keys.lane_queue(ONE.key)) == 0, "it waits in one place only"
    assert await claimed(stores) == [waiting]
    await stores.redis.flushall()


async def test_many_moves_at_once_never_let_a_lane_run_over(stores: StoreFixture) -> None:
    for _ in range(30):
        await stores.create(lane=TWO)
    ended = 0
    running: list[Claimed] = []
    while ended < 30:
        replies = await asyncio.gather(
            *(stores.claim(worker, 3) for worker in (stores.ann, stores.bob) for _ in range(3))
        )
        running += [task for claims in replies for task in claims.tasks]
        assert 1 <= len(running) <= 2
        await stores.finish(running.pop())
        ended += 1


async def test_a_lane_starts_no_more_than_its_rate_in_any_period(stores: StoreFixture) -> None:
    lane = Lane("rate", 3, (3, 60_000), is_left_at_start=True)
    tasks = [await stores.create(lane=lane) for _ in range(10)]

    first = (await stores.claim(room=10)).tasks
    for task in first:
        await stores.finish(task)
    again = await stores.claim(room=10)

    assert [task.id for task in first] == tasks[:3]
    assert again.tasks == []
    assert again.wait_ms is not None
    assert 50_000 < again.wait_ms <= 60_000  # asleep until then, not asking again and again


async def test_a_start_that_lets_the_next_task_in_reports_that_there_is_more(stores: StoreFixture) -> None:
    lane = Lane("rate", 1, (1, 60_000), is_left_at_start=True)
    for _ in range(3):
        await stores.create(lane=lane)

    assert (await stores.claim(room=2)).wait_ms == 0
    claims = await stores.claim(room=2)
    assert (claims.tasks, (claims.wait_ms or 0) > 50_000) == ([], True)


async def test_a_rate_lets_the_next_start_when_the_period_is_over(stores: StoreFixture) -> None:
    lane = Lane("rate", 2, (2, 150), is_left_at_start=True)
    tasks = [await stores.create(lane=lane) for _ in range(5)]
    starts: list[tuple[int, str]] = []
    while len(starts) < 5:
        claims = await stores.claim(room=10)
        starts += [((await stores.record(task.id)).started_ms or 0, task.id) for task in claims.tasks]
        if not claims.tasks and claims.wait_ms:
            await stores.wait_until_ms(await stores.now_ms() + claims.wait_ms)

    assert [task for _, task in starts] == tasks
    assert all(starts[at + 2][0] - starts[at][0] >= 150 for at in range(3))


async def test_what_runs_does_not_count_where_only_a_rate_is_given(stores: StoreFixture) -> None:
    lane = Lane("rate", 2, (2, 50), is_left_at_start=True)
    for _ in range(4):
        await stores.create(lane=lane)
    running = (await stores.claim(room=10)).tasks
    await stores.wait_until_ms(await stores.now_ms() + 60)
    await stores.claim(room=0)

    more = await claimed(stores)

    assert (len(running), len(more)) == (2, 2)


async def test_a_limit_and_a_rate_both_hold(stores: StoreFixture) -> None:
    lane = Lane("both", 1, (2, 60_000))
    for _ in range(5):
        await stores.create(lane=lane)

    for _ in range(2):
        (task,) = (await stores.claim(room=10)).tasks
        await stores.finish(task)

    assert await claimed(stores) == []


async def test_tasks_held_back_by_a_rate_delay_no_others(stores: StoreFixture) -> None:
    lane = Lane("rate", 1, (1, 60_000), is_left_at_start=True)
    for _ in range(20):
        await stores.create(lane=lane)
    free = await stores.create()

    assert free in [*await claimed(stores, 2), *await claimed(stores, 2)]
