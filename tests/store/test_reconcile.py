"""Repairs: an open task that something else took out of the queue is reachable again."""

from datetime import timedelta

import pytest
from anyio import fail_after, sleep
from arq.jobs import deserialize_job_raw

from taskmill.store.tasks.arq_job import job_from_json
from taskmill.store.tasks.pauses import Pausable, Pause
from taskmill.store.tasks.tasks import OPERATOR
from tests.support.store_fixture import StoreFixture

NOW_AND_THEN = timedelta(milliseconds=1)


async def test_nothing_is_repaired_where_nothing_is_amiss(stores: StoreFixture) -> None:
    pending, running = await stores.create(), await stores.start()
    delayed = await stores.start()
    await stores.release(delayed, delay=60)

    async with stores.nothing_changes():
        assert await reconciled(stores) == 0
    assert (pending, running.id) != ("", "")


async def reconciled(stores: StoreFixture) -> int:
    """The number of repairs of one whole pass; waits for the mark of the pass before to fade."""
    with fail_after(30):
        while (mended := await stores.ann.reconcile(NOW_AND_THEN)) is None:
            await sleep(0.001)
    return mended


async def test_a_pending_task_whose_queue_entry_was_deleted_is_queued_again(stores: StoreFixture) -> None:
    task_id = await stores.create()
    await stores.redis.zrem(stores.keys.queue("default"), task_id)
    await stores.redis.delete(stores.keys.wake("default"))

    assert await reconciled(stores) == 1

    assert await stores.redis.exists(stores.keys.wake("default")) == 1
    assert (await stores.take(task_id)).crashes == 0


async def test_a_released_task_whose_queue_entry_was_deleted_keeps_its_delay(stores: StoreFixture) -> None:
    claimed = await stores.start()
    await stores.release(claimed, delay=60, reason="retry")
    due = (await stores.record(claimed.id)).due_ms
    await stores.redis.zrem(stores.keys.queue("default"), claimed.id)
    await stores.redis.delete(stores.keys.wake("default"))

    assert await reconciled(stores) == 1

    assert (await stores.found()).members(stores.keys.queue("default")) == {claimed.id: due}
    assert await stores.redis.exists(stores.keys.wake("default")) == 1, "a worker learns when it is due"
    assert (await stores.claim()).tasks == []


async def test_a_running_task_whose_queue_entry_was_deleted_stays_its_workers_for_a_lease(stores: StoreFixture) -> None:
    """The worker may be alive and only between two renewals."""
    claimed = await stores.start()
    await stores.redis.zrem(stores.keys.queue("default"), claimed.id)

    assert await reconciled(stores) == 1

    assert (await stores.claim(stores.bob)).tasks == []
    assert await stores.renew((claimed.id, 1)) == []
    assert await stores.finish(claimed) == "finished"


async def test_a_deleted_job_is_written_again_as_arq_reads_it(stores: StoreFixture) -> None:
    """A stock worker drops a job it thinks is done."""
    pending, running = await stores.create(), await stores.start()
    for task_id in (pending, running.id):
        await stores.redis.delete(stores.keys.job(task_id))

    assert await reconciled(stores) == 2

    for task_id in (pending, running.id):
        stored = await stores.redis.get(stores.keys.job(task_id))
        job = deserialize_job_raw(stored, deserializer=job_from_json)
        assert job == ("taskmill", [task_id], {}, None, job[4])


async def test_a_mark_left_on_a_pending_task_is_removed(stores: StoreFixture) -> None:
    """arq passes over a job that is marked as in progress."""
    task_id = await stores.create()
    await stores.redis.set(stores.keys.in_progress(task_id), 1, px=60_000)

    assert await reconciled(stores) == 1

    assert await stores.redis.exists(stores.keys.in_progress(task_id)) == 0


async def test_the_mark_of_a_running_task_stays(stores: StoreFixture) -> None:
    claimed = await stores.start()

    assert await reconciled(stores) == 0
    assert await stores.redis.get(stores.keys.in_progress(claimed.id)) == b"1"


async def test_the_live_entry_of_a_vanished_record_is_dropped(stores: StoreFixture) -> None:
    task_id = await stores.create()
    await stores.redis.delete(*(key(task_id) for key in (stores.keys.record, stores.keys.events)))

    assert await reconciled(stores) == 1

    assert await stores.redis.exists(stores.keys.live) == 0
    assert (await stores.claim()).tasks == []
    await stores.redis.flushall()  # a vanished record leaves its owner's counter behind, which nothing else can do


async def test_a_pass_goes_through_all_open_tasks_in_portions(stores: StoreFixture) -> None:
    created = [await stores.create() for _ in range(7)]
    await stores.redis.delete(stores.keys.queue("default"))

    with fail_after(30):
        while (mended := await stores.ann.reconcile(NOW_AND_THEN, chunk=3)) is None:
            await sleep(0.001)

    assert mended == 7
    assert {task.id for task in (await stores.claim(room=9)).tasks} == set(created)


@pytest.mark.parametrize("worker", ["ann", "bob"])
async def test_one_worker_repairs_at_a_time_and_no_more_often_than_asked(stores: StoreFixture, worker: str) -> None:
    task_id = await stores.create()
    every = timedelta(minutes=1)
    assert await stores.ann.reconcile(every) == 0
    await stores.redis.zrem(stores.keys.queue("default"), task_id)

    assert await getattr(stores, worker).reconcile(every) is None
    assert 30_000 < await stores.redis.pttl(stores.keys.reconciling) <= 60_000

    await stores.redis.delete(stores.keys.reconciling)
    assert await getattr(stores, worker).reconcile(every) == 1


async def test_a_repair_leaves_no_event(stores: StoreFixture) -> None:
    """I14: what a reader sees of the task does not change."""
    task_id = await stores.create()
    before = await stores.read(task_id)
    await stores.redis.zrem(stores.keys.queue("default"), task_id)
    await stores.redis.delete(stores.keys.job(task_id))

    assert await reconciled(stores) == 2

    assert await stores.read(task_id) == before
    assert await stores.moves(task_id) == ["create"]


async def test_a_task_that_is_held_stays_so_while_its_tool_is_paused(stores: StoreFixture) -> None:
    pause = Pause(Pausable.TOOL, "", "count")
    await stores.store.pause(pause)
    held = await stores.create()
    assert (await stores.claim()).tasks == []
    assert (await stores.store.read(held, OPERATOR)).paused == "tool"

    assert await reconciled(stores) == 0

    assert (await stores.store.read(held, OPERATOR)).paused == "tool"
    await stores.redis.delete(stores.keys.paused)
    assert await reconciled(stores) == 1
    assert (await stores.take(held)).id == held
