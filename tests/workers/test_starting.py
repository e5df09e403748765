"""How soon and how many: tasks are started by a push, in batches, up to the concurrency, and slots are refilled."""

import asyncio
import signal
from itertools import pairwise
from time import monotonic
from types import SimpleNamespace
from typing import Any

from taskmill.workers.services.abandoned_queues import AbandonedQueues
from tests.support.waiting import PROMPTLY, eventually_async
from tests.workers.deployment import Deployment


async def test_an_idle_worker_is_woken_by_a_push(deployment: Deployment) -> None:
    """woken by a push rather than a poll; the poll here is a minute."""
    await deployment.worker(poll=60)
    delays = []
    for _ in range(9):
        began = monotonic()
        task_id = await deployment.create_noted("quick")
        delays.append((await deployment.noted("start", task_id)).at - began)
    assert max(delays) < PROMPTLY


async def test_a_claim_goes_with_the_wait_of_an_idle_worker_and_not_with_that_of_a_busy_one(
    deployment: Deployment,
) -> None:
    """Redis gives a task to a worker that cannot ask for it. A tool may block the loop, so a busy worker has to ask."""

    async def is_waiting() -> bool:
        clients = await deployment.redis.client_list()
        return any(client["cmd"] == "blpop" and "b" in client["flags"] for client in clients)

    worker = await deployment.worker(poll=60)
    for status in ("running", "pending"):
        await eventually_async(is_waiting)
        worker.send(signal.SIGSTOP)

        task_id = await deployment.create_noted("walk", deployment.gate())

        assert (await deployment.record(task_id)).status == status
        worker.send(signal.SIGCONT)
        await deployment.noted("start", task_id)
    deployment.gate().touch()


async def test_an_idle_worker_runs_at_once_what_a_queue_has_that_it_takes_over(deployment: Deployment) -> None:
    """Its wait, of a minute here, began with the queues of before."""
    worker = await deployment.worker(source="file+new", poll=60, concurrency=1)
    task_id = await deployment.create("echo", text="left behind", queue="~file+old/default")
    assert (await deployment.done(task_id)).record.status == "completed"
    assert worker.said("queues.taken_over")


async def test_a_queue_is_taken_over_whose_tasks_are_behind_many_others_of_which_each_check_reads_some(
    deployment: Deployment,
) -> None:
    """What a check reads, the worker's own tasks wait for."""
    await asyncio.gather(*(deployment.create("echo", text="not ours", queue="other/default") for _ in range(250)))
    task_id = await deployment.create("echo", text="left behind", queue="~file+old/default")
    worker = await deployment.worker(source="file+new", poll=60, concurrency=1)
    assert (await deployment.done(task_id)).record.status == "completed"
    assert worker.said("queues.taken_over")


async def test_a_check_for_queues_to_take_over_reads_a_hundred_tasks_and_knows_what_the_last_ones_found() -> None:
    open_tasks = ["other/default"] * 150 + ["~file+old/default"] * 20 + ["~file+older/default"] * 80
    reads = list[int]()

    class Store:
        async def queues_of_open_tasks(self, first: int, count: int) -> tuple[set[str], bool]:
            found = open_tasks[first : first + count]
            reads.append(len(found))
            return set(found), len(found) == count

        async def workers(self) -> list[dict[str, Any]]:
            return []

    store: Any = Store()
    settings: Any = SimpleNamespace(app="~file+new")
    health: Any = SimpleNamespace(queues=())
    checks = AbandonedQueues(store, settings, health, lambda: None)
    both = ["~file+old/default", "~file+older/default"]
    assert [await checks._find() for _ in range(4)] == [[], both, both, both]
    assert reads == [100, 100, 50, 100]
    del open_tasks[150:]
    assert [await checks._find() for _ in range(3)] == [both, [], []], "what a whole round no longer finds is left"


async def test_every_idle_worker_of_a_queue_wakes_when_there_is_work_for_all(deployment: Deployment) -> None:
    workers = [await deployment.worker(poll=60, concurrency=1) for _ in range(3)]
    began = monotonic()
    await asyncio.gather(*(deployment.create_noted("walk", deployment.gate()) for _ in workers))
    last = await deployment.noted("start", times=3)
    assert last.at - began < PROMPTLY
    assert {note.pid for note in deployment.notes("start")} == {worker.pid for worker in workers}


async def test_a_worker_starts_what_was_queued_before_it(deployment: Deployment) -> None:
    tasks = [await deployment.create_noted("quick") for _ in range(25)]
    await deployment.worker(poll=60, concurrency=4)
    for task_id in tasks:
        assert (await deployment.done(task_id)).record.status == "completed"


async def test_tasks_are_claimed_and_settled_in_batches(deployment: Deployment) -> None:
    """many in one call. Of 500 tasks each needs a finish of its own, but hardly ever a claim or a read."""
    tasks = [await deployment.create("echo", text="") for _ in range(500)]
    before = await deployment.redis.info("all")
    await deployment.worker(poll=60, concurrency=100, lease=180)
    await eventually_async(lambda: deployment.redis.zcard(deployment.keys.live), lambda left: left == 0)
    after = await deployment.redis.info("all")
    scripts = after["cmdstat_evalsha"]["calls"] - before["cmdstat_evalsha"]["calls"]
    assert scripts - len(tasks) < 100
    # The test's own polling is one read a poll, counted here as well.
    polls = after["cmdstat_zcard"]["calls"] - before.get("cmdstat_zcard", {"calls": 0})["calls"]
    assert after["total_reads_processed"] - before["total_reads_processed"] - polls < 200


async def test_no_more_tasks_run_at_once_than_the_concurrency(deployment: Deployment) -> None:
    await deployment.worker(concurrency=3)
    tasks = [await deployment.create_noted("walk", deployment.gate()) for _ in range(8)]
    await deployment.noted("start", times=3)
    # A later task, on another worker, shows that there was time to start a fourth.
    await deployment.worker(queue="other")
    other = await deployment.store.create(deployment.task("quick", queue="other", journal=str(deployment.journal)))
    await deployment.done(other.record.id)
    assert len(deployment.notes("start")) == 3 + 1
    deployment.gate().touch()
    for task_id in tasks:
        await deployment.done(task_id)
    running, most = 0, 0
    for note in sorted([*deployment.notes("start"), *deployment.notes("finish")], key=lambda note: note.at):
        if note.task_id in tasks:
            running += 1 if note.what == "start" else -1
            most = max(most, running)
    assert most == 3


async def test_a_freed_slot_is_refilled_at_once(deployment: Deployment) -> None:
    """not at the next poll, which is a minute away."""
    await deployment.worker(poll=60, concurrency=1)
    tasks = [await deployment.create_noted("walk", deployment.gate()) for _ in range(30)]
    deployment.gate().touch()
    for task_id in tasks:
        await deployment.done(task_id)
    between = sorted([*deployment.notes("start"), *deployment.notes("finish")], key=lambda note: note.at)
    gaps = [later.at - earlier.at for earlier, later in pairwise(between) if later.what == "start"]
    assert len(gaps) == 29
    assert max(gaps) < PROMPTLY


async def test_many_long_tasks_on_one_worker_do_not_starve_another(deployment: Deployment) -> None:
    """stock arq's queue head is full of running jobs; here running tasks leave it."""
    await deployment.worker(concurrency=150, lease=180)
    await asyncio.gather(*(deployment.create_noted("walk", deployment.gate()) for _ in range(150)))
    await deployment.noted("start", times=150)
    idle = await deployment.worker(poll=60)
    began = monotonic()
    more = [await deployment.create_noted("quick") for _ in range(5)]
    for task_id in more:
        assert (await deployment.noted("start", task_id)).pid == idle.pid
    assert monotonic() - began < PROMPTLY
    deployment.gate().touch()
    await eventually_async(lambda: deployment.redis.zcard(deployment.keys.live), lambda left: left == 0)


async def test_plain_tools_run_up_to_the_concurrency_too(deployment: Deployment) -> None:
    await deployment.worker(concurrency=60)
    await asyncio.gather(*(deployment.create_noted("march", deployment.gate()) for _ in range(60)))
    try:
        await deployment.noted("start", times=60)
    finally:
        deployment.gate().touch()
        await eventually_async(lambda: deployment.redis.zcard(deployment.keys.live), lambda left: left == 0)


async def test_an_idle_worker_leaves_by_itself_if_it_is_told_to(deployment: Deployment) -> None:
    task_id = await deployment.create_noted("walk", deployment.gate())
    worker = await deployment.worker(idle_exit=0.5, poll=0.1)
    await deployment.noted("start", task_id)
    began = monotonic()
    deployment.gate().touch()
    assert await worker.ended() == 0
    assert monotonic() - began >= 0.5
    assert (await deployment.record(task_id)).status == "completed"
