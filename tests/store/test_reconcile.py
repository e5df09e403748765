"""Repairs: an open task that something else took out of the queue is reachable again."""

from datetime import timedelta

import pytest
from anyio import fail_after, sleep
from arq.jobs import deserialize_job_raw

from taskmill.store.tasks.arq_job import job_from_json
from tests.support.store_fixture import Depot

NOW_AND_THEN = timedelta(milliseconds=1)


async def test_nothing_is_repaired_where_nothing_is_amiss(depot: Depot) -> None:
    pending, running = await depot.create(), await depot.start()
    delayed = await depot.start()
    await depot.release(delayed, delay=60)

    async with depot.nothing_changes():
        assert await reconciled(depot) == 0
    assert (pending, running.id) != ("", "")


async def reconciled(depot: Depot) -> int:
    """The number of repairs of one whole pass; waits for the mark of the pass before to fade."""
    with fail_after(5):
        while (mended := await depot.ann.reconcile(NOW_AND_THEN)) is None:
            await sleep(0.001)
    return mended


async def test_a_pending_task_whose_queue_entry_was_deleted_is_queued_again(depot: Depot) -> None:
    task_id = await depot.create()
    await depot.redis.zrem(depot.keys.queue("default"), task_id)
    await depot.redis.delete(depot.keys.wake("default"))

    assert await reconciled(depot) == 1

    assert await depot.redis.exists(depot.keys.wake("default")) == 1
    assert (await depot.take(task_id)).crashes == 0


async def test_a_released_task_whose_queue_entry_was_deleted_keeps_its_delay(depot: Depot) -> None:
    claimed = await depot.start()
    await depot.release(claimed, delay=60, reason="retry")
    due = (await depot.record(claimed.id)).due_ms
    await depot.redis.zrem(depot.keys.queue("default"), claimed.id)

    assert await reconciled(depot) == 1

    assert (await depot.found()).members(depot.keys.queue("default")) == {claimed.id: due}
    assert (await depot.claim()).tasks == []


async def test_a_running_task_whose_queue_entry_was_deleted_stays_its_workers_for_a_lease(depot: Depot) -> None:
    """The worker may be alive and only between two renewals."""
    claimed = await depot.start()
    await depot.redis.zrem(depot.keys.queue("default"), claimed.id)

    assert await reconciled(depot) == 1

    assert (await depot.claim(depot.bob)).tasks == []
    assert await depot.renew((claimed.id, 1)) == []
    assert await depot.finish(claimed) == "finished"


async def test_a_deleted_job_is_written_again_as_arq_reads_it(depot: Depot) -> None:
    """A stock worker drops a job it thinks is done."""
    pending, running = await depot.create(), await depot.start()
    for task_id in (pending, running.id):
        await depot.redis.delete(depot.keys.job(task_id))

    assert await reconciled(depot) == 2

    for task_id in (pending, running.id):
        stored = await depot.redis.get(depot.keys.job(task_id))
        job = deserialize_job_raw(stored, deserializer=job_from_json)
        assert job == ("taskmill", [task_id], {}, None, job[4])


async def test_a_mark_left_on_a_pending_task_is_removed(depot: Depot) -> None:
    """arq passes over a job that is marked as in progress."""
    task_id = await depot.create()
    await depot.redis.set(depot.keys.in_progress(task_id), 1, px=60_000)

    assert await reconciled(depot) == 1

    assert await depot.redis.exists(depot.keys.in_progress(task_id)) == 0


async def test_the_mark_of_a_running_task_stays(depot: Depot) -> None:
    claimed = await depot.start()

    assert await reconciled(depot) == 0
    assert await depot.redis.get(depot.keys.in_progress(claimed.id)) == b"1"


async def test_the_live_entry_of_a_vanished_record_is_dropped(depot: Depot) -> None:
    task_id = await depot.create()
    await depot.redis.delete(*(key(task_id) for key in (depot.keys.record, depot.keys.events)))

    assert await reconciled(depot) == 1

    assert await depot.redis.exists(depot.keys.live) == 0
    assert (await depot.claim()).tasks == []
    await depot.redis.flushall()  # a vanished record leaves its owner's counter behind, which nothing else can do


async def test_a_pass_goes_through_all_open_tasks_in_portions(depot: Depot) -> None:
    created = [await depot.create() for _ in range(7)]
    await depot.redis.delete(depot.keys.queue("default"))

    with fail_after(5):
        while (mended := await depot.ann.reconcile(NOW_AND_THEN, chunk=3)) is None:
            await sleep(0.001)

    assert mended == 7
    assert {task.id for task in (await depot.claim(room=9)).tasks} == set(created)


@pytest.mark.parametrize("worker", ["ann", "bob"])
async def test_one_worker_repairs_at_a_time_and_no_more_often_than_asked(depot: Depot, worker: str) -> None:
    task_id = await depot.create()
    every = timedelta(minutes=1)
    assert await depot.ann.reconcile(every) == 0
    await depot.redis.zrem(depot.keys.queue("default"), task_id)

    assert await getattr(depot, worker).reconcile(every) is None
    assert 59_000 < await depot.redis.pttl(depot.keys.reconciling) <= 60_000

    await depot.redis.delete(depot.keys.reconciling)
    assert await getattr(depot, worker).reconcile(every) == 1


async def test_a_repair_leaves_no_event(depot: Depot) -> None:
    """I14: what a reader sees of the task does not change."""
    task_id = await depot.create()
    before = await depot.look(task_id)
    await depot.redis.zrem(depot.keys.queue("default"), task_id)
    await depot.redis.delete(depot.keys.job(task_id))

    assert await reconciled(depot) == 2

    assert await depot.look(task_id) == before
    assert await depot.moves(task_id) == ["create"]
