"""How soon and how many: tasks are started by a push, in batches, up to the concurrency, and slots are refilled."""

import asyncio
from itertools import pairwise
from statistics import median
from time import monotonic

from tests.support.waiting import eventually_async
from tests.workers.deployment import Stage


async def test_an_idle_worker_is_woken_by_a_push(stage: Stage) -> None:
    """woken by a push rather than a poll; the poll here is a minute."""
    await stage.worker(poll=60)
    delays = []
    for _ in range(9):
        began = monotonic()
        task_id = await stage.create_noted("quick")
        delays.append((await stage.noted("start", task_id)).at - began)
    assert median(delays) < 0.05
    assert max(delays) < 0.3


async def test_every_idle_worker_of_a_queue_wakes_when_there_is_work_for_all(stage: Stage) -> None:
    workers = [await stage.worker(poll=60, concurrency=1) for _ in range(3)]
    began = monotonic()
    await asyncio.gather(*(stage.create_noted("walk", stage.gate()) for _ in workers))
    last = await stage.noted("start", times=3)
    assert last.at - began < 0.3
    assert {note.pid for note in stage.notes("start")} == {worker.pid for worker in workers}


async def test_a_worker_starts_what_was_queued_before_it(stage: Stage) -> None:
    tasks = [await stage.create_noted("quick") for _ in range(25)]
    await stage.worker(poll=60, concurrency=4)
    for task_id in tasks:
        assert (await stage.done(task_id)).record.status == "completed"


async def test_tasks_are_claimed_and_settled_in_batches(stage: Stage) -> None:
    """many in one call. Of 500 tasks each needs a finish of its own, but hardly ever a claim or a read."""
    tasks = [await stage.create("echo", text="") for _ in range(500)]
    before = await stage.redis.info("all")
    await stage.worker(poll=60, concurrency=100)
    await eventually_async(lambda: stage.redis.zcard(stage.keys.live), lambda left: left == 0, within=10)
    after = await stage.redis.info("all")
    scripts = after["cmdstat_evalsha"]["calls"] - before["cmdstat_evalsha"]["calls"]
    assert scripts - len(tasks) < 100
    # The test's own polling is one read a poll, counted here as well.
    polls = after["cmdstat_zcard"]["calls"] - before.get("cmdstat_zcard", {"calls": 0})["calls"]
    assert after["total_reads_processed"] - before["total_reads_processed"] - polls < 200


async def test_no_more_tasks_run_at_once_than_the_concurrency(stage: Stage) -> None:
    await stage.worker(concurrency=3)
    tasks = [await stage.create_noted("walk", stage.gate()) for _ in range(8)]
    await stage.noted("start", times=3)
    # A later task, on another worker, shows that there was time to start a fourth.
    await stage.worker(queue="other")
    other = await stage.store.create(stage.task("quick", queue="other", journal=str(stage.journal)))
    await stage.done(other.record.id)
    assert len(stage.notes("start")) == 3 + 1
    stage.gate().touch()
    for task_id in tasks:
        await stage.done(task_id)
    running, most = 0, 0
    for note in sorted([*stage.notes("start"), *stage.notes("finish")], key=lambda note: note.at):
        if note.task_id in tasks:
            running += 1 if note.what == "start" else -1
            most = max(most, running)
    assert most == 3


async def test_a_freed_slot_is_refilled_at_once(stage: Stage) -> None:
    """not at the next poll, which is a minute away."""
    await stage.worker(poll=60, concurrency=1)
    tasks = [await stage.create_noted("walk", stage.gate()) for _ in range(30)]
    stage.gate().touch()
    for task_id in tasks:
        await stage.done(task_id, within=10)
    between = sorted([*stage.notes("start"), *stage.notes("finish")], key=lambda note: note.at)
    gaps = [later.at - earlier.at for earlier, later in pairwise(between) if later.what == "start"]
    assert len(gaps) == 29
    assert median(gaps) < 0.02


async def test_many_long_tasks_on_one_worker_do_not_starve_another(stage: Stage) -> None:
    """stock arq's queue head is full of running jobs; here running tasks leave it."""
    await stage.worker(concurrency=150, lease=15)
    await asyncio.gather(*(stage.create_noted("walk", stage.gate()) for _ in range(150)))
    await stage.noted("start", times=150)
    idle = await stage.worker(poll=60)
    began = monotonic()
    more = [await stage.create_noted("quick") for _ in range(5)]
    for task_id in more:
        assert (await stage.noted("start", task_id)).pid == idle.pid
    assert monotonic() - began < 1
    stage.gate().touch()
    await eventually_async(lambda: stage.redis.zcard(stage.keys.live), lambda left: left == 0)


async def test_plain_tools_run_up_to_the_concurrency_too(stage: Stage) -> None:
    await stage.worker(concurrency=60)
    await asyncio.gather(*(stage.create_noted("march", stage.gate()) for _ in range(60)))
    try:
        await stage.noted("start", times=60, within=5)
    finally:
        stage.gate().touch()
        await eventually_async(lambda: stage.redis.zcard(stage.keys.live), lambda left: left == 0)


async def test_an_idle_worker_leaves_by_itself_if_it_is_told_to(stage: Stage) -> None:
    worker = await stage.worker(idle_exit=0.5, poll=0.1)
    task_id = await stage.create_noted("walk", stage.gate())
    await stage.noted("start", task_id)
    began = monotonic()
    stage.gate().touch()
    assert await worker.ended() == 0
    assert monotonic() - began >= 0.5
    assert (await stage.record(task_id)).status == "completed"
