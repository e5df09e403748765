"""Lanes: of the tasks that share a key so many run at once, or start in a while; the others are in nobody's way."""

import asyncio
from datetime import timedelta

import pytest

from taskmill.engine.outcome import Broke, Fault
from taskmill.engine.record import Lane
from taskmill.engine.status import Status
from taskmill.store.claims.claims import Claimed
from tests.support.store_fixture import DONE, OWNER, STRANGER, Depot, question

ONE = Lane("one", 1)
TWO = Lane("two", 2)


async def claimed(depot: Depot, room: int = 10) -> list[str]:
    return [task.id for task in (await depot.claim(room=room)).tasks]


async def leave(depot: Depot, task: Claimed, how: str) -> None:
    """Each way in which a task can give up its place in a lane."""
    if how == "finish":
        await depot.finish(task)
    elif how == "fail":
        await depot.finish(task, Broke(Fault.TIMEOUT, "too long"))
    elif how == "cancel":
        await depot.store.cancel(task.id, OWNER)
    elif how == "delay":
        await depot.release(task, delay=3600)
    elif how == "park":
        await depot.ann.ask(task.id, task.fence, [question(1)])
        assert await depot.say(depot.ann.park_call(task.id, task.fence)) == [b"parked"]
    else:
        for _ in range(depot.settings.crash_limit + 1):
            await depot.lapse(task.id)
            await depot.claim(ids=[task.id])


async def test_so_many_tasks_of_a_lane_run_at_once_and_the_next_starts_when_one_ends(depot: Depot) -> None:
    tasks = [await depot.create(lane=TWO) for _ in range(5)]

    first = (await depot.claim(room=10)).tasks
    await depot.finish(first[1])

    assert [task.id for task in first] == tasks[:2]
    assert await claimed(depot) == [tasks[2]]


async def test_tasks_that_wait_for_their_lane_do_not_stand_in_the_way_of_others(depot: Depot) -> None:
    for _ in range(50):
        await depot.create(lane=ONE)
    free = [await depot.create() for _ in range(3)]
    other = await depot.create(lane=TWO)

    assert set(await claimed(depot)) >= {*free, other}
    assert (await depot.claim(room=10)).wait_ms not in (0, None)  # nobody is told to look again at once


@pytest.mark.parametrize("how", ["finish", "fail", "cancel", "delay", "park", "poison"])
async def test_a_place_in_a_lane_is_free_again_however_its_task_leaves_it(depot: Depot, how: str) -> None:
    holder = await depot.start(lane=ONE)
    waiting = [await depot.create(lane=ONE) for _ in range(2)]

    await leave(depot, holder, how)

    assert await claimed(depot) == waiting[:1]


async def test_a_dead_workers_task_keeps_its_place_and_is_the_one_that_runs_again(depot: Depot) -> None:
    """The place belongs to the task: a lapsed lease gives it to the next worker, and nobody runs beside it."""
    holder = await depot.start(lane=ONE)
    waiting = await depot.create(lane=ONE)
    await depot.lapse(holder.id)

    (again,) = (await depot.claim(depot.bob, 10)).tasks
    assert again.id == holder.id
    assert await depot.finish(holder) == "lost"
    assert await claimed(depot) == []

    await depot.finish(again)
    assert await claimed(depot) == [waiting]


async def test_a_task_that_is_cancelled_while_it_waits_for_its_lane_is_gone_from_it(depot: Depot) -> None:
    holder = await depot.start(lane=ONE)
    unwanted, wanted = await depot.create(lane=ONE), await depot.create(lane=ONE)

    await depot.store.cancel(unwanted, OWNER)
    await depot.finish(holder)

    assert await claimed(depot) == [wanted]


async def test_a_task_that_comes_back_waits_if_its_place_was_given_on(depot: Depot) -> None:
    holder = await depot.start(lane=ONE)
    second = await depot.create(lane=ONE)
    await depot.ann.ask(holder.id, holder.fence, [question(1)])
    await depot.say(depot.ann.park_call(holder.id, holder.fence))
    (running,) = (await depot.claim(room=10)).tasks

    await depot.store.answer(holder.id, OWNER, {"input-1": {}})
    third = await depot.create(lane=ONE)
    assert await claimed(depot) == []
    await depot.finish(running)

    assert running.id == second
    assert await claimed(depot) == [holder.id]  # it was in front before the third came
    assert (await depot.record(third)).status is Status.PENDING


async def test_a_given_back_task_keeps_its_place(depot: Depot) -> None:
    holder = await depot.start(lane=ONE)
    await depot.create(lane=ONE)

    await depot.release(holder)

    assert await claimed(depot) == [holder.id]


async def test_a_lane_is_fair_between_principals_too(depot: Depot) -> None:
    holder = await depot.start(lane=ONE)
    for _ in range(20):
        await depot.create(lane=ONE)
    theirs = await depot.create(lane=ONE, principal=STRANGER)

    await depot.finish(holder)
    (second,) = (await depot.claim(room=10)).tasks
    await depot.finish(second)

    assert theirs in [second.id, *await claimed(depot)]


async def test_a_waiting_task_says_how_many_are_before_it(depot: Depot) -> None:
    await depot.start(lane=TWO)
    await depot.start(lane=TWO)
    waiting = [await depot.store.create(depot.task(lane=TWO)) for _ in range(3)]

    assert [view.ahead for view in waiting] == [2, 3, 4]
    assert (await depot.look(waiting[2].record.id)).ahead == 4


async def test_lanes_of_two_queues_are_one(depot: Depot) -> None:
    holder = await depot.start(lane=ONE)
    elsewhere = await depot.create(lane=ONE, queue="slow")
    call = depot.ann.claim_call("slow", 5)
    _, before = await depot.ann.turn([], call)
    _, after = await depot.ann.turn([depot.ann.finish_call(holder.id, holder.fence, DONE)], call)

    assert before is not None
    assert before.tasks == []
    assert after is not None
    assert [task.id for task in after.tasks] == [elsewhere]


async def test_an_idle_worker_is_woken_when_a_place_is_given_on(depot: Depot) -> None:
    holder = await depot.start(lane=ONE)
    await depot.create(lane=ONE)
    await depot.redis.delete(depot.keys.wake("default"))

    await depot.finish(holder)

    assert await depot.redis.llen(depot.keys.wake("default")) == 1  # type: ignore[misc]


async def test_a_place_whose_task_somebody_removed_is_given_on(depot: Depot) -> None:
    gone = await depot.start(lane=ONE)
    await depot.redis.delete(depot.keys.record(gone.id))

    after = await depot.create(lane=ONE)

    assert await claimed(depot) == [after]
    await depot.redis.flushall()


async def test_reconcile_leaves_a_full_lane_alone_and_brings_back_what_could_run(depot: Depot) -> None:
    await depot.start(lane=ONE)
    waiting = await depot.create(lane=ONE)
    assert await depot.ann.reconcile(timedelta(hours=1)) == 0

    await depot.redis.delete(depot.keys.lane(ONE.key), depot.keys.reconciling)
    assert await depot.ann.reconcile(timedelta(hours=1)) == 1

    assert await claimed(depot) == [waiting]
    await depot.redis.flushall()


async def test_many_moves_at_once_never_let_a_lane_run_over(depot: Depot) -> None:
    for _ in range(30):
        await depot.create(lane=TWO)
    ended = 0
    running: list[Claimed] = []
    while ended < 30:
        replies = await asyncio.gather(*(depot.claim(worker, 3) for worker in (depot.ann, depot.bob) for _ in range(3)))
        running += [task for claims in replies for task in claims.tasks]
        assert 1 <= len(running) <= 2
        await depot.finish(running.pop())
        ended += 1


async def test_a_lane_starts_no_more_than_its_rate_in_any_period(depot: Depot) -> None:
    lane = Lane("rate", 3, (3, 60_000), is_left_at_start=True)
    tasks = [await depot.create(lane=lane) for _ in range(10)]

    first = (await depot.claim(room=10)).tasks
    for task in first:
        await depot.finish(task)
    again = await depot.claim(room=10)

    assert [task.id for task in first] == tasks[:3]
    assert again.tasks == []
    assert again.wait_ms is not None
    assert 50_000 < again.wait_ms <= 60_000  # asleep until then, not asking again and again


async def test_a_start_that_lets_the_next_task_in_says_that_there_is_more(depot: Depot) -> None:
    lane = Lane("rate", 1, (1, 60_000), is_left_at_start=True)
    for _ in range(3):
        await depot.create(lane=lane)

    assert (await depot.claim(room=2)).wait_ms == 0
    claims = await depot.claim(room=2)
    assert (claims.tasks, (claims.wait_ms or 0) > 50_000) == ([], True)


async def test_a_rate_lets_the_next_start_when_the_period_is_over(depot: Depot) -> None:
    lane = Lane("rate", 2, (2, 150), is_left_at_start=True)
    tasks = [await depot.create(lane=lane) for _ in range(5)]
    starts: list[tuple[int, str]] = []
    while len(starts) < 5:
        claims = await depot.claim(room=10)
        starts += [((await depot.record(task.id)).started_ms or 0, task.id) for task in claims.tasks]
        if not claims.tasks and claims.wait_ms:
            await depot.wait_until_ms(await depot.now_ms() + claims.wait_ms)

    assert [task for _, task in starts] == tasks
    assert all(starts[at + 2][0] - starts[at][0] >= 150 for at in range(3))


async def test_what_runs_does_not_count_where_only_a_rate_is_given(depot: Depot) -> None:
    lane = Lane("rate", 2, (2, 50), is_left_at_start=True)
    for _ in range(4):
        await depot.create(lane=lane)
    running = (await depot.claim(room=10)).tasks
    await depot.wait_until_ms(await depot.now_ms() + 60)
    await depot.claim(room=0)

    more = await claimed(depot)

    assert (len(running), len(more)) == (2, 2)


async def test_a_limit_and_a_rate_both_hold(depot: Depot) -> None:
    lane = Lane("both", 1, (2, 60_000))
    for _ in range(5):
        await depot.create(lane=lane)

    for _ in range(2):
        (task,) = (await depot.claim(room=10)).tasks
        await depot.finish(task)

    assert await claimed(depot) == []


async def test_tasks_held_back_by_a_rate_are_in_nobodys_way(depot: Depot) -> None:
    lane = Lane("rate", 1, (1, 60_000), is_left_at_start=True)
    for _ in range(20):
        await depot.create(lane=lane)
    free = await depot.create()

    assert free in [*await claimed(depot, 2), *await claimed(depot, 2)]
