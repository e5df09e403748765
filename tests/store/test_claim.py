"""Claims: in order, only what is due, each task to one worker, and what becomes of tasks whose workers die."""

import asyncio
from dataclasses import replace

import pytest
from anyio import fail_after, sleep

from taskmill.engine.errors import SealBroken, TaskNotFound
from taskmill.engine.events import Event
from taskmill.engine.outcome import Broke, Fault
from taskmill.engine.record import TaskView
from taskmill.engine.status import Move, Status
from taskmill.store.claims.claims import Claimed, Claims
from taskmill.store.scripts import Call
from taskmill.store.tasks.creation import creation
from tests.support.store_fixture import OWNER, Depot


async def test_a_claimed_task_is_running_under_a_fence_and_a_lease(depot: Depot) -> None:
    created = await depot.store.create(depot.task(arguments={"n": 7}))
    task_id = created.record.id

    claims = await depot.claim()

    claimed = Claimed(task_id, 1, 1, 0, 0, "count", OWNER, b'{"n":7}')
    assert claims == Claims([claimed], claims.wait_ms)
    now = (await depot.record(task_id)).updated_ms
    assert await depot.look(task_id) == TaskView(
        replace(
            created.record,
            status=Status.RUNNING,
            updated_ms=now,
            seq=2,
            fence=1,
            attempt=1,
            worker="ann",
            started_ms=now,
        )
    )
    assert (await depot.store.history(task_id))[1:] == [
        Event(2, Move.CLAIM, now, {"fence": 1, "attempt": 1, "crashes": 0, "worker": "ann"})
    ]
    assert depot.ann.arguments(claimed) == {"n": 7}


async def test_the_lease_is_the_score_in_the_queue_and_arqs_mark_holds_the_fence(depot: Depot) -> None:
    """a running task's score is its lease end, so a lapsed one comes up by itself."""
    claimed = await depot.start()

    found = await depot.found()

    started = found.record(claimed.id).started_ms or 0
    assert found.members(depot.keys.queue("default")) == {claimed.id: started + 60_000}
    assert found.values[depot.keys.in_progress(claimed.id)] == b"1"
    assert 0 < found.ttls[depot.keys.in_progress(claimed.id)] <= 60_000


async def test_tasks_are_claimed_in_the_order_of_their_creation(depot: Depot) -> None:
    created = [await depot.create() for _ in range(5)]

    batches = [[task.id for task in (await depot.claim(room=2)).tasks] for _ in range(3)]

    assert batches == [created[0:2], created[2:4], created[4:5]]


async def test_tasks_created_within_one_millisecond_keep_their_order(depot: Depot) -> None:
    """Their ids are random, so whole milliseconds would shuffle them."""
    tasks = [depot.task() for _ in range(200)]
    calls: list[Call] = [("create", [depot.keys.record(task.id)], creation(task, depot.settings)) for task in tasks]
    await depot.ann.scripts.run_many(depot.redis, calls)

    found = await depot.found()
    claimed = (await depot.claim(room=500)).tasks

    assert len({found.record(task.id).created_ms for task in tasks}) < len(tasks) / 2
    assert [task.id for task in claimed] == [task.id for task in tasks]


async def test_a_claim_takes_no_more_than_there_is_room_for(depot: Depot) -> None:
    for _ in range(3):
        await depot.create()

    claims = await depot.claim(room=2)

    assert (len(claims.tasks), claims.wait_ms) == (2, 0)


async def test_many_claims_at_once_give_every_task_to_exactly_one_worker(depot: Depot) -> None:
    """I7; plain arq races here, and a second worker adds nothing."""
    created = {await depot.create() for _ in range(60)}

    replies = await asyncio.gather(*(depot.claim(worker, 5) for worker in (depot.ann, depot.bob) for _ in range(6)))

    claimed = [task.id for claims in replies for task in claims.tasks]
    assert (len(claimed), set(claimed)) == (60, created)


async def test_nothing_queued_is_told_apart_from_nothing_due(depot: Depot) -> None:
    assert await depot.claim() == Claims([], None)

    await depot.start()
    claims = await depot.claim()

    assert claims.tasks == []
    assert claims.wait_ms is not None
    assert 0 < claims.wait_ms <= 60_000


async def test_a_task_that_is_not_due_is_not_claimed_also_by_its_id(depot: Depot) -> None:
    claimed = await depot.start()
    await depot.release(claimed, delay=60)
    running = await depot.start()

    async with depot.nothing_changes():
        assert (await depot.claim(depot.bob, 10)).tasks == []
        assert (await depot.claim(depot.bob, ids=[claimed.id, running.id, "never-seen"])).tasks == []


async def test_a_claim_by_ids_takes_those_and_leaves_the_head_of_the_queue(depot: Depot) -> None:
    first, second, third = [await depot.create() for _ in range(3)]

    assert [task.id for task in (await depot.claim(ids=[third, second])).tasks] == [third, second]
    assert [task.id for task in (await depot.claim(room=9)).tasks] == [first]


async def test_a_worker_gets_only_tasks_of_the_queue_it_serves(depot: Depot) -> None:
    await depot.create(queue="slow")

    assert await depot.claim() == Claims([], None)


async def test_a_repeated_turn_is_given_what_it_took_the_first_time(depot: Depot) -> None:
    """Its reply was lost; otherwise those tasks would wait for their lease and count as crashed."""
    await depot.create()
    await depot.create()
    first = await depot.claim(room=1, turn="1")

    async with depot.nothing_changes():
        assert await depot.claim(room=1, turn="1") == first

    assert (await depot.claim(room=1, turn="2")).tasks != first.tasks


async def test_a_repeated_turn_leaves_out_what_the_worker_lost_meanwhile(depot: Depot) -> None:
    kept, cancelled, moved = [await depot.create() for _ in range(3)]
    assert len((await depot.claim(room=3, turn="1")).tasks) == 3
    await depot.store.cancel(cancelled, OWNER)
    await depot.lapse(moved)
    await depot.take(moved, depot.bob)

    assert [task.id for task in (await depot.claim(room=3, turn="1")).tasks] == [kept]


async def test_a_turn_of_one_worker_is_not_anothers(depot: Depot) -> None:
    await depot.create()
    await depot.claim(turn="1")

    assert (await depot.claim(depot.bob, turn="1")).tasks == []


async def test_a_repeated_turn_that_took_nothing_may_take_something_now(depot: Depot) -> None:
    assert (await depot.claim(turn="1")).tasks == []
    task_id = await depot.create()

    assert [task.id for task in (await depot.claim(turn="1")).tasks] == [task_id]


async def test_a_lapsed_lease_is_claimed_again_and_counts_a_crash(depot: Depot) -> None:
    claimed = await depot.start()
    before = await depot.record(claimed.id)
    await depot.lapse(claimed.id)

    again = await depot.take(claimed.id, depot.bob)

    assert again == replace(claimed, fence=2, attempt=2, crashes=1)
    now = (await depot.record(claimed.id)).updated_ms
    assert await depot.record(claimed.id) == replace(
        before, updated_ms=now, seq=3, fence=2, attempt=2, crashes=1, worker="bob"
    )
    assert (await depot.store.history(claimed.id))[2:] == [
        Event(3, Move.RECLAIM, now, {"fence": 2, "attempt": 2, "crashes": 1, "worker": "bob"})
    ]


async def test_a_lease_lapses_by_time_alone_and_not_before(depot: Depot) -> None:
    """Rescue is the ordinary poll: there is no reaper."""
    hasty = depot.with_settings(lease=0.3)
    claimed = await hasty.start()
    started = (await hasty.record(claimed.id)).started_ms or 0

    with fail_after(5):
        while not (tasks := (await hasty.claim(hasty.bob)).tasks):
            await sleep(0.01)

    assert tasks == [replace(claimed, fence=2, attempt=2, crashes=1)]
    assert 300 <= (await hasty.record(claimed.id)).updated_ms - started < 2000


@pytest.mark.parametrize("limit", [0, 1, 3])
async def test_a_task_that_loses_more_workers_than_allowed_is_failed_and_not_claimed(depot: Depot, limit: int) -> None:
    strict = depot.with_settings(crash_limit=limit)
    claimed = await strict.start()
    for _ in range(limit):
        await strict.lapse(claimed.id)
        claimed = await strict.take(claimed.id)
    before = await strict.record(claimed.id)
    assert before.crashes == limit

    await strict.lapse(claimed.id)
    claims = await strict.claim(strict.bob)

    assert claims == Claims([], None)
    after = await strict.look(claimed.id)
    now = after.record.updated_ms
    crashes = limit + 1
    assert after == TaskView(
        replace(
            before,
            status=Status.FAILED,
            updated_ms=now,
            ended_ms=now,
            seq=before.seq + 1,
            crashes=crashes,
            reason="poisoned",
        ),
        Broke(Fault.POISONED, f"Every worker that ran this task died ({crashes} times)."),
    )
    assert (await strict.moves(claimed.id))[-1] == "fail"
    assert await strict.finish(claimed) == "lost"


async def test_a_claim_wakes_another_worker_only_while_more_is_due(depot: Depot) -> None:
    tokens = depot.keys.wake("default")
    for _ in range(3):
        await depot.create()

    await depot.claim(room=2)
    assert await depot.redis.llen(tokens) == 4  # type: ignore[misc]  # one a creation, and one passed on

    await depot.claim(room=2)
    assert await depot.redis.exists(tokens) == 0


async def test_wake_tokens_passed_on_stay_within_their_bound(depot: Depot) -> None:
    for _ in range(3):
        await depot.create()
    for _ in range(140):
        await depot.claim(room=0)

    assert await depot.redis.llen(depot.keys.wake("default")) == 128  # type: ignore[misc]


async def test_a_queue_entry_that_outlived_its_task_is_dropped_and_not_claimed(depot: Depot) -> None:
    claimed = await depot.start()
    await depot.finish(claimed)
    async with depot.nothing_changes():
        await depot.redis.zadd(depot.keys.queue("default"), {claimed.id: 1, "never-seen": 2})
        await depot.redis.set(depot.keys.job("never-seen"), "{}")

        assert await depot.claim(room=9) == Claims([], None)


async def test_arguments_somebody_deleted_are_claimed_as_none_and_cannot_be_read(depot: Depot) -> None:
    task_id = await depot.create()
    await depot.redis.delete(depot.keys.args(task_id))

    claimed = await depot.take(task_id)

    assert claimed.stored is None
    with pytest.raises(ValueError, match="gone"):
        depot.ann.arguments(claimed)


@pytest.mark.parametrize("stored", [b"[1]", b"not json", b"\xff"])
async def test_arguments_that_are_no_json_object_cannot_be_read(depot: Depot, stored: bytes) -> None:
    claimed = await depot.start()

    with pytest.raises((SealBroken, ValueError)):
        depot.ann.arguments(replace(claimed, stored=stored))


async def test_a_claimed_task_is_still_somebody_elses_business(depot: Depot) -> None:
    """I13."""
    claimed = await depot.start()

    with pytest.raises(TaskNotFound):
        await depot.store.look(claimed.id, "somebody")


async def test_a_worker_of_several_queues_is_given_tasks_of_each_in_turn(depot: Depot) -> None:
    fast = [await depot.create(queue="fast") for _ in range(6)]
    slow = [await depot.create(queue="slow") for _ in range(6)]
    await depot.create(queue="other")

    taken = []
    for _ in range(4):
        _, claims = await depot.ann.turn([], depot.ann.claim_call("fast,slow", 1))
        assert claims is not None
        taken += [task.id for task in claims.tasks]

    assert sorted(taken) == sorted([*fast[:2], *slow[:2]])


async def test_a_queue_without_tasks_leaves_its_room_to_the_others(depot: Depot) -> None:
    slow = [await depot.create(queue="slow") for _ in range(3)]

    for _ in range(2):
        _, claims = await depot.ann.turn([], depot.ann.claim_call("fast,slow,slower", 2))
        assert claims is not None
        slow = [task for task in slow if task not in {task.id for task in claims.tasks}]

    assert slow == []


async def test_a_worker_of_several_queues_is_told_of_the_first_that_has_something(depot: Depot) -> None:
    call = depot.ann.claim_call("fast,slow", 0)
    assert (await depot.ann.turn([], call))[1] == Claims([], None)

    await depot.create(queue="slow")

    _, claims = await depot.ann.turn([], depot.ann.claim_call("fast,slow", 0))
    assert claims is not None
    assert claims.wait_ms == 0
    assert await depot.redis.llen(depot.keys.wake("slow")) == 2  # type: ignore[misc]  # another worker should look
    assert await depot.redis.llen(depot.keys.wake("fast")) == 0  # type: ignore[misc]
