"""Claims: in order, only what is due, each task to one worker, and what becomes of tasks whose workers die."""

import asyncio
from dataclasses import replace

import pytest
from anyio import fail_after, sleep

from taskmill.engine.errors import DecryptionFailed, TaskNotFound
from taskmill.engine.events import Event
from taskmill.engine.outcome import Failed, Fault
from taskmill.engine.record import TaskView
from taskmill.engine.status import Move, Status
from taskmill.store.claims.claims import Claimed, Claims
from taskmill.store.scripts import Call
from taskmill.store.tasks.creation import create_args
from tests.support.store_fixture import OWNER, StoreFixture
from tests.support.waiting import PROMPTLY


async def test_a_claimed_task_is_running_under_a_fence_and_a_lease(stores: StoreFixture) -> None:
    created = await stores.store.create(stores.task(arguments={"n": 7}))
    task_id = created.record.id

    claims = await stores.claim()

    claimed = Claimed(task_id, 1, 1, 0, 0, "count", OWNER, b'{"n":7}')
    assert claims == Claims([claimed], claims.wait_ms)
    now = (await stores.record(task_id)).updated_ms
    assert await stores.read(task_id) == TaskView(
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
    assert (await stores.store.history(task_id))[1:] == [
        Event(2, Move.CLAIM, now, {"fence": 1, "attempt": 1, "crashes": 0, "worker": "ann"})
    ]
    assert stores.ann.arguments(claimed) == {"n": 7}


async def test_the_lease_is_the_score_in_the_queue_and_arqs_mark_holds_the_fence(stores: StoreFixture) -> None:
    """a running task's score is its lease end, so a lapsed one comes up by itself."""
    claimed = await stores.start()

    found = await stores.found()

    started = found.record(claimed.id).started_ms or 0
    assert found.members(stores.keys.queue("default")) == {claimed.id: started + 60_000}
    assert found.values[stores.keys.in_progress(claimed.id)] == b"1"
    assert 0 < found.ttls[stores.keys.in_progress(claimed.id)] <= 60_000


async def test_claims_mark_tasks_for_arq_once_a_stock_arq_worker_claims_too(stores: StoreFixture) -> None:
    """Only those take the heads of a queue by themselves, and start nothing that is marked."""
    first, second = await stores.create(), await stores.create()
    marks = [stores.keys.in_progress(task_id) for task_id in (first, second)]
    await stores.claim()
    assert await stores.renew((first, 1)) == []
    assert await stores.redis.mget(marks) == [None, None]

    await stores.claim(ids=[""])  # a stock worker begins with it
    await stores.claim()

    assert await stores.redis.mget(marks) == [None, b"1"]
    assert await stores.renew((first, 1), (second, 1)) == []
    assert await stores.redis.mget(marks) == [b"1", b"1"]


async def test_tasks_are_claimed_in_the_order_of_their_creation(stores: StoreFixture) -> None:
    created = [await stores.create() for _ in range(5)]

    batches = [[task.id for task in (await stores.claim(room=2)).tasks] for _ in range(3)]

    assert batches == [created[0:2], created[2:4], created[4:5]]


async def test_tasks_created_within_one_millisecond_keep_their_order(stores: StoreFixture) -> None:
    """Their ids are random, so whole milliseconds would shuffle them."""
    tasks = [stores.task() for _ in range(200)]
    calls: list[Call] = [
        ("create", [stores.keys.record(task.id)], create_args(task, stores.settings)) for task in tasks
    ]
    await stores.ann.scripts.run_many(stores.redis, calls)

    found = await stores.found()
    claimed = (await stores.claim(room=500)).tasks

    assert len({found.record(task.id).created_ms for task in tasks}) < len(tasks)
    assert [task.id for task in claimed] == [task.id for task in tasks]


async def test_a_claim_takes_no_more_than_there_is_room_for(stores: StoreFixture) -> None:
    for _ in range(3):
        await stores.create()

    claims = await stores.claim(room=2)

    assert (len(claims.tasks), claims.wait_ms) == (2, 0)


async def test_many_claims_at_once_give_every_task_to_exactly_one_worker(stores: StoreFixture) -> None:
    """I7; plain arq races here, and a second worker adds nothing."""
    created = {await stores.create() for _ in range(60)}

    replies = await asyncio.gather(*(stores.claim(worker, 5) for worker in (stores.ann, stores.bob) for _ in range(6)))

    claimed = [task.id for claims in replies for task in claims.tasks]
    assert (len(claimed), set(claimed)) == (60, created)


async def test_nothing_queued_differs_from_nothing_due(stores: StoreFixture) -> None:
    assert await stores.claim() == Claims([], None)

    await stores.start()
    claims = await stores.claim()

    assert claims.tasks == []
    assert claims.wait_ms is not None
    assert 0 < claims.wait_ms <= 60_000


async def test_a_task_that_is_not_due_is_not_claimed_also_by_its_id(stores: StoreFixture) -> None:
    claimed = await stores.start()
    await stores.release(claimed, delay=60)
    running = await stores.start()

    async with stores.nothing_changes():
        assert (await stores.claim(stores.bob, 10)).tasks == []
        assert (await stores.claim(stores.bob, ids=[claimed.id, running.id, "never-seen"])).tasks == []


async def test_a_claim_by_ids_takes_those_and_leaves_the_head_of_the_queue(stores: StoreFixture) -> None:
    first, second, third = [await stores.create() for _ in range(3)]

    assert [task.id for task in (await stores.claim(ids=[third, second])).tasks] == [third, second]
    assert [task.id for task in (await stores.claim(room=9)).tasks] == [first]


async def test_a_worker_gets_only_tasks_of_the_queue_it_serves(stores: StoreFixture) -> None:
    await stores.create(queue="slow")

    assert await stores.claim() == Claims([], None)


async def test_a_repeated_batch_is_given_what_it_took_the_first_time(stores: StoreFixture) -> None:
    """Its reply was lost; otherwise those tasks would wait for their lease and count as crashed."""
    await stores.create()
    await stores.create()
    first = await stores.claim(room=1, batch_id="1")

    async with stores.nothing_changes():
        assert await stores.claim(room=1, batch_id="1") == first

    assert (await stores.claim(room=1, batch_id="2")).tasks != first.tasks


async def test_a_repeated_batch_leaves_out_what_the_worker_lost_meanwhile(stores: StoreFixture) -> None:
    kept, cancelled, moved = [await stores.create() for _ in range(3)]
    assert len((await stores.claim(room=3, batch_id="1")).tasks) == 3
    await stores.store.cancel(cancelled, OWNER)
    await stores.lapse(moved)
    await stores.take(moved, stores.bob)

    assert [task.id for task in (await stores.claim(room=3, batch_id="1")).tasks] == [kept]


async def test_a_batch_of_one_worker_is_not_anothers(stores: StoreFixture) -> None:
    await stores.create()
    await stores.claim(batch_id="1")

    assert (await stores.claim(stores.bob, batch_id="1")).tasks == []


async def test_a_repeated_batch_that_took_nothing_may_take_something_now(stores: StoreFixture) -> None:
    assert (await stores.claim(batch_id="1")).tasks == []
    task_id = await stores.create()

    assert [task.id for task in (await stores.claim(batch_id="1")).tasks] == [task_id]


async def test_a_claim_without_room_leaves_a_later_one_of_its_batch_nothing_and_knows_what_an_earlier_one_took(
    stores: StoreFixture,
) -> None:
    """A worker that leaves cannot know whether Redis has made the claim behind its wait."""
    first = await stores.create()
    taken = await stores.claim(batch_id="1")
    assert [task.id for task in taken.tasks] == [first]
    await stores.create()

    assert await stores.claim(room=0, batch_id="1") == replace(taken, wait_ms=0)

    assert (await stores.claim(room=0, batch_id="2")).tasks == []
    assert (await stores.claim(batch_id="2")).tasks == []
    assert await stores.redis.pttl(stores.keys.last_claim("ann:0")) > 60_000
    assert len((await stores.claim(batch_id="3")).tasks) == 1


async def test_a_lapsed_lease_is_claimed_again_and_counts_a_crash(stores: StoreFixture) -> None:
    claimed = await stores.start()
    before = await stores.record(claimed.id)
    await stores.lapse(claimed.id)

    again = await stores.take(claimed.id, stores.bob)

    assert again == replace(claimed, fence=2, attempt=2, crashes=1, is_rescue=True)
    now = (await stores.record(claimed.id)).updated_ms
    assert await stores.record(claimed.id) == replace(
        before, updated_ms=now, seq=3, fence=2, attempt=2, crashes=1, worker="bob"
    )
    assert (await stores.store.history(claimed.id))[2:] == [
        Event(3, Move.RECLAIM, now, {"fence": 2, "attempt": 2, "crashes": 1, "worker": "bob"})
    ]


async def test_a_lease_lapses_by_time_alone_and_not_before(stores: StoreFixture) -> None:
    """Rescue is the ordinary poll: there is no reaper."""
    hasty = stores.with_settings(lease=0.3)
    claimed = await hasty.start()
    started = (await hasty.record(claimed.id)).started_ms or 0

    with fail_after(30):
        while not (tasks := (await hasty.claim(hasty.bob)).tasks):
            await sleep(0.01)

    assert tasks == [replace(claimed, fence=2, attempt=2, crashes=1, is_rescue=True)]
    assert 300 <= (await hasty.record(claimed.id)).updated_ms - started < PROMPTLY * 1000


@pytest.mark.parametrize("limit", [0, 1, 3])
async def test_a_task_that_loses_more_workers_than_allowed_is_failed_and_not_claimed(
    stores: StoreFixture, limit: int
) -> None:
    strict = stores.with_settings(crash_limit=limit)
    claimed = await strict.start()
    for _ in range(limit):
        await strict.lapse(claimed.id)
        claimed = await strict.take(claimed.id)
    before = await strict.record(claimed.id)
    assert before.crashes == limit

    await strict.lapse(claimed.id)
    claims = await strict.claim(strict.bob)

    assert claims == Claims([], None)
    after = await strict.read(claimed.id)
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
        Failed(Fault.POISONED, f"Every worker that ran this task died ({crashes} times)."),
    )
    assert (await strict.moves(claimed.id))[-1] == "fail"
    assert await strict.finish(claimed) == "lost"


async def test_a_claim_wakes_another_worker_only_while_more_is_due(stores: StoreFixture) -> None:
    tokens = stores.keys.wake("default")
    for _ in range(3):
        await stores.create()

    await stores.claim(room=2)
    assert await stores.redis.llen(tokens) == 4  # type: ignore[misc]  # one a creation, and one passed on

    await stores.claim(room=2)
    assert await stores.redis.exists(tokens) == 0


async def test_wake_tokens_passed_on_stay_within_their_bound(stores: StoreFixture) -> None:
    for _ in range(3):
        await stores.create()
    for _ in range(140):
        await stores.claim(room=0)

    assert await stores.redis.llen(stores.keys.wake("default")) == 128  # type: ignore[misc]


async def test_a_queue_entry_that_outlived_its_task_is_dropped_and_not_claimed(stores: StoreFixture) -> None:
    claimed = await stores.start()
    await stores.finish(claimed)
    async with stores.nothing_changes():
        await stores.redis.zadd(stores.keys.queue("default"), {claimed.id: 1, "never-seen": 2})
        await stores.redis.set(stores.keys.job("never-seen"), "{}")

        assert await stores.claim(room=9) == Claims([], None)


async def test_deleted_arguments_are_claimed_as_none_and_cannot_be_read(stores: StoreFixture) -> None:
    task_id = await stores.create()
    await stores.redis.delete(stores.keys.args(task_id))

    claimed = await stores.take(task_id)

    assert claimed.stored is None
    with pytest.raises(ValueError, match="gone"):
        stores.ann.arguments(claimed)


@pytest.mark.parametrize("stored", [b"[1]", b"not json", b"\xff"])
async def test_arguments_that_are_no_json_object_cannot_be_read(stores: StoreFixture, stored: bytes) -> None:
    claimed = await stores.start()

    with pytest.raises((DecryptionFailed, ValueError)):
        stores.ann.arguments(replace(claimed, stored=stored))


async def test_a_claimed_task_is_still_hidden_from_other_principals(stores: StoreFixture) -> None:
    """I13."""
    claimed = await stores.start()

    with pytest.raises(TaskNotFound):
        await stores.store.read(claimed.id, "somebody")


async def test_a_worker_of_several_queues_gets_tasks_of_each_by_rotation(stores: StoreFixture) -> None:
    fast = [await stores.create(queue="fast") for _ in range(6)]
    slow = [await stores.create(queue="slow") for _ in range(6)]
    await stores.create(queue="other")

    taken = []
    for _ in range(4):
        _, claims = await stores.ann.run_batch([], stores.ann.claim_call("fast,slow", 1))
        assert claims is not None
        taken += [task.id for task in claims.tasks]

    assert sorted(taken) == sorted([*fast[:2], *slow[:2]])


async def test_a_queue_without_tasks_leaves_its_room_to_the_others(stores: StoreFixture) -> None:
    slow = [await stores.create(queue="slow") for _ in range(3)]

    for _ in range(2):
        _, claims = await stores.ann.run_batch([], stores.ann.claim_call("fast,slow,slower", 2))
        assert claims is not None
        slow = [task for task in slow if task not in {task.id for task in claims.tasks}]

    assert slow == []


async def test_a_worker_of_several_queues_learns_of_the_first_that_has_a_task(stores: StoreFixture) -> None:
    call = stores.ann.claim_call("fast,slow", 0)
    assert (await stores.ann.run_batch([], call))[1] == Claims([], None)

    await stores.create(queue="slow")

    _, claims = await stores.ann.run_batch([], stores.ann.claim_call("fast,slow", 0))
    assert claims is not None
    assert claims.wait_ms == 0
    assert await stores.redis.llen(stores.keys.wake("slow")) == 2  # type: ignore[misc]  # another worker should look
    assert await stores.redis.llen(stores.keys.wake("fast")) == 0  # type: ignore[misc]
