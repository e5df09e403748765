"""A stock arq worker on the same queue: correct, only slower, also beside our own workers."""

import asyncio
import signal
from typing import Any

import pytest
from arq.worker import Retry

from taskmill.engine.outcome import Failed, Fault, Returned
from taskmill.engine.status import Move
from taskmill.store.tasks.tasks import OPERATOR
from taskmill.workers.arq_worker import stock_settings
from taskmill.workers.settings import WorkerSettings
from tests.support.redis_server import PrivateRedis
from tests.support.results import text_of_task
from tests.support.waiting import eventually_async
from tests.workers import tools
from tests.workers.deployment import Deployment, WorkerProcess


@pytest.fixture
async def stock(deployment: Deployment) -> WorkerProcess:
    """A stock worker."""
    return await deployment.worker(stock=True, poll=0.05, concurrency=5)


async def nothing_of_arq_is_left(deployment: Deployment) -> None:
    """arq tidies up after our script has ended the task, so there may be a moment in between."""
    await eventually_async(lambda: deployment.redis.keys("arq:*"), lambda keys: keys == [])


async def test_it_completes_tasks(deployment: Deployment, stock: WorkerProcess) -> None:
    tasks = [await deployment.create_noted("quick") for _ in range(20)]
    for task_id in tasks:
        assert text_of_task(await deployment.done(task_id)) == "done"
        assert await deployment.moves(task_id) == ["create", "claim", "complete"]
    assert {note.pid for note in deployment.notes("start")} == {stock.pid}
    await nothing_of_arq_is_left(deployment)


async def test_it_retries_and_fails_as_the_policy_says(deployment: Deployment, stock: WorkerProcess) -> None:
    again, never = (
        await deployment.create_noted("flaky", failures=2),
        await deployment.create_noted("flaky", failures=9),
    )
    assert text_of_task(await deployment.done(again)) == "attempt 3"
    view = await deployment.done(never)
    assert isinstance(view.outcome, Returned)
    assert view.outcome.is_error
    assert view.record.failures == 2
    releases = [event for event in await deployment.events(again) if event.move is Move.RELEASE]
    assert [event.facts["due_ms"] - event.at_ms for event in releases] == [200, 400]
    view = await deployment.done(await deployment.create("leave", how="SystemExit"))
    assert isinstance(view.outcome, Failed)
    assert view.outcome.fault is Fault.EXITED
    assert stock.code is None
    await nothing_of_arq_is_left(deployment)


async def test_it_leaves_an_unknown_tool_to_a_worker_that_has_it(deployment: Deployment) -> None:
    old = await deployment.worker(stock=True, poll=0.05, without=("quick",))
    task_id = await deployment.create_noted("quick")
    await eventually_async(lambda: deployment.record(task_id), lambda record: record.reason == "unknown_tool")
    new = await deployment.worker()
    await old.kill()
    view = await deployment.done(task_id)
    assert (text_of_task(view), view.record.crashes) == ("done", 0)
    assert [note.pid for note in deployment.notes("start")] == [new.pid]
    await nothing_of_arq_is_left(deployment)


@pytest.mark.parametrize("tool", ["walk", "march"])
async def test_a_cancel_reaches_its_tool(deployment: Deployment, stock: WorkerProcess, tool: str) -> None:
    task_id = await deployment.create_noted(tool, deployment.gate())
    await deployment.noted("start", task_id)
    await deployment.store.cancel(task_id, OPERATOR)
    await deployment.noted("cancelled", task_id)
    assert (await deployment.done(await deployment.create_noted("quick"))).record.status == "completed"
    assert (await deployment.record(task_id)).status == "cancelled"
    assert stock.code is None
    await nothing_of_arq_is_left(deployment)


@pytest.mark.usefixtures("short_lease")
async def test_it_keeps_the_lease_of_a_long_task(deployment: Deployment, stock: WorkerProcess) -> None:
    """Three leases; another worker is waiting for it to lapse."""
    task_id = await deployment.create_noted("walk", deployment.gate())
    await deployment.noted("start", task_id)
    await deployment.worker(poll=0.05)
    ends = await deployment.redis.zscore(deployment.keys.queue("default"), task_id)
    await eventually_async(
        lambda: deployment.redis.zscore(deployment.keys.queue("default"), task_id), lambda score: score > ends + 2000
    )
    deployment.gate().touch()
    view = await deployment.done(task_id)
    assert (text_of_task(view), view.record.attempt) == ("fence 1", 1)
    await nothing_of_arq_is_left(deployment)


@pytest.mark.usefixtures("short_lease")
async def test_when_it_is_killed_its_task_runs_again(deployment: Deployment, stock: WorkerProcess) -> None:
    """Plain arq waits for the longest job timeout. Both kinds of worker may take over."""
    task_id = await deployment.create_noted("walk", deployment.gate())
    await deployment.noted("start", task_id)
    await stock.kill()
    again = await deployment.worker(stock=True, poll=0.05)
    assert (await deployment.noted("start", task_id, times=2)).pid == again.pid
    await again.kill()
    ours = await deployment.worker()
    assert (await deployment.noted("start", task_id, times=3)).pid == ours.pid
    deployment.gate().touch()
    view = await deployment.done(task_id)
    assert (text_of_task(view), view.record.crashes) == ("fence 3", 2)
    await nothing_of_arq_is_left(deployment)


async def test_killed_between_its_own_mark_and_our_claim_it_hides_the_task_from_nobody(deployment: Deployment) -> None:
    """arq marks a job as in progress for its longest time limit; the repair of any worker takes a stray mark away."""
    task_id = await deployment.create_noted("quick")
    await deployment.redis.set(deployment.keys.in_progress(task_id), b"1", px=10**12)
    await deployment.worker(stock=True, poll=0.05, reconcile_every=0.2)
    assert text_of_task(await deployment.done(task_id)) == "done"
    await nothing_of_arq_is_left(deployment)


async def test_on_sigterm_it_gives_its_tasks_back_without_a_crash(deployment: Deployment, stock: WorkerProcess) -> None:
    task_id = await deployment.create_noted("count", deployment.gate(), n=3)
    await deployment.noted("start", task_id)
    stock.send(signal.SIGTERM)
    assert await stock.ended() == 0
    record = await deployment.record(task_id)
    assert (record.status, record.reason, record.progress.done) == ("pending", "drain", 3)
    await deployment.worker()
    deployment.gate().touch()
    view = await deployment.done(task_id)
    assert (view.record.attempt, view.record.crashes) == (2, 0)
    await nothing_of_arq_is_left(deployment)


async def test_on_sigterm_a_plain_tool_is_told_and_its_task_given_back(
    deployment: Deployment, stock: WorkerProcess
) -> None:
    task_id = await deployment.create_noted("march", deployment.gate())
    await deployment.noted("start", task_id)
    stock.send(signal.SIGTERM)
    assert await stock.ended() == 0
    assert (await deployment.record(task_id)).reason == "drain"


async def test_mixed_with_our_workers_every_task_ends_once(deployment: Deployment, stock: WorkerProcess) -> None:
    """Two of each kind, tasks that crash, are cancelled, report, and end; the invariants are behind the test."""
    await deployment.worker(stock=True, poll=0.05, concurrency=5)
    tasks: dict[str, list[str]] = {"walk": [], "flaky": [], "leave": [], "cancel": []}
    for _ in range(10):
        tasks["walk"].append(await deployment.create_noted("walk", deployment.gate()))
    await deployment.noted("start", times=10)
    for _ in range(2):
        await deployment.worker(poll=0.05, concurrency=2)
    for _ in range(15):
        tasks["cancel"].append(await deployment.create_noted("walk", deployment.gate("never")))
        tasks["walk"].append(await deployment.create_noted("walk", deployment.gate()))
        tasks["flaky"].append(await deployment.create_noted("flaky", failures=1))
        tasks["leave"].append(await deployment.create("leave", how="SystemExit"))
    await deployment.noted("start", times=14)
    await asyncio.gather(*(deployment.store.cancel(task_id, OPERATOR) for task_id in tasks["cancel"]))
    deployment.gate().touch()
    endings = {"walk": ("completed", 1), "flaky": ("completed", 2), "leave": ("failed", 1)}
    for kind, ending in endings.items():
        for task_id in tasks[kind]:
            record = (await deployment.done(task_id)).record
            assert (record.status, record.attempt, record.crashes) == (*ending, 0)
    assert {note.pid for note in deployment.notes("start")} == {worker.pid for worker in deployment.workers}
    await nothing_of_arq_is_left(deployment)


async def test_a_moment_without_redis_costs_it_no_task(fragile: Deployment, own_redis: PrivateRedis) -> None:
    """arq's loop ends with its connection; whoever starts it again, its tasks are all still there."""
    stock = await fragile.worker(stock=True, poll=0.05, concurrency=5)
    tasks = [await fragile.create_noted("walk", fragile.gate()) for _ in range(8)]
    await fragile.noted("start", times=5)
    # Silent first: arq ends its running jobs as soon as it sees that the connection is gone.
    assert own_redis.process is not None
    own_redis.process.send_signal(signal.SIGSTOP)
    fragile.gate().touch()
    await fragile.noted("finish", times=5)
    own_redis.kill()
    await asyncio.to_thread(own_redis.start)
    await stock.kill()
    await fragile.worker(reconcile_every=0.5)
    for task_id in tasks:
        assert (await fragile.done(task_id)).record.status == "completed"
    await nothing_of_arq_is_left(fragile)


async def test_what_it_cannot_tell_is_left_to_the_lease(fragile: Deployment, own_redis: PrivateRedis) -> None:
    """arq would delete the job of a call that raises anything but its `Retry`; and nobody may keep the lease."""
    settings: Any = stock_settings(lambda: tools.mcp, WorkerSettings(**fragile.settings, command_timeout=0.3))
    context: dict[Any, Any] = {}
    await settings.on_startup(context)
    try:
        assert await fragile.redis.hget(fragile.keys.epoch, "stock") == b"1"  # others mark for it what they claim
        task_id = await fragile.create_noted("walk", fragile.gate())
        running = asyncio.create_task(settings.functions[0].coroutine(context, task_id))
        await fragile.noted("start", task_id)
        own_redis.kill()
        fragile.gate().touch()
        with pytest.raises(Retry):
            await running
        with pytest.raises(Retry):
            await settings.functions[0].coroutine(context, task_id)
    finally:
        await settings.on_shutdown(context)
    await asyncio.to_thread(own_redis.start)
    await fragile.worker()
    assert text_of_task(await fragile.done(task_id)).startswith("fence ")
    assert (await fragile.record(task_id)).attempt == 2
