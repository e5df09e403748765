"""How a worker leaves: SIGTERM, the grace, what is given back, and that it does leave whatever is in the way."""

import asyncio
import signal
from time import monotonic

import pytest

from tests.support.redis_server import PrivateRedis
from tests.support.results import text_of_task
from tests.support.waiting import PROMPTLY, eventually_async
from tests.workers.deployment import Deployment, WorkerProcess


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_task_that_ends_within_the_grace_is_settled(deployment: Deployment, number: signal.Signals) -> None:
    """Nothing new is begun meanwhile."""
    worker = await deployment.worker(grace=30)
    task_id = await deployment.create_noted("walk", deployment.gate())
    await deployment.noted("start", task_id)
    worker.send(number)
    await eventually_async(lambda: worker.said("worker.draining"))
    queued = await deployment.create_noted("quick")
    deployment.gate().touch()
    assert await worker.ended() == 0
    assert text_of_task(await deployment.read(task_id)) == "fence 1"
    assert (await deployment.record(queued)).status == "pending"
    assert worker.said("worker.stopped")


@pytest.mark.parametrize("tool", ["walk", "march"])
async def test_what_outlasts_the_grace_is_given_back_without_a_crash(deployment: Deployment, tool: str) -> None:
    """Another worker has it at once, not after the lease, which is three minutes."""
    leaving = await deployment.worker(grace=0.3, lease=180)
    task_id = await deployment.create_noted(tool, deployment.gate("never"), deployment.gate())
    await deployment.noted("start", task_id)
    other = await deployment.worker(poll=60, lease=180)
    began = monotonic()
    leaving.send(signal.SIGTERM)
    assert await leaving.ended() == 0
    again = await deployment.noted("start", task_id, times=2)
    assert again.pid == other.pid
    assert 0.3 <= again.at - began < PROMPTLY
    deployment.gate().touch()
    view = await deployment.done(task_id)
    assert (text_of_task(view), view.record.crashes, view.record.failures) == ("fence 2", 0, 0)
    assert await deployment.moves(task_id) == ["create", "claim", "release", "claim", "complete"]


async def test_a_second_signal_ends_the_grace(deployment: Deployment) -> None:
    worker = await deployment.worker(grace=60)
    task_id = await deployment.create_noted("walk", deployment.gate())
    await deployment.noted("start", task_id)
    worker.send(signal.SIGTERM)
    await eventually_async(lambda: worker.said("worker.draining"))
    worker.send(signal.SIGTERM)
    assert await worker.ended() == 0
    assert (await deployment.record(task_id)).reason == "drain"


async def test_an_idle_worker_leaves_at_once(deployment: Deployment) -> None:
    worker = await deployment.worker(grace=60, poll=60)
    worker.send(signal.SIGTERM)
    assert await worker.ended() == 0


async def test_many_deploys_use_up_no_attempts(deployment: Deployment) -> None:
    """five deploys exhaust max_tries of plain arq. Progress said before each is kept."""
    task_id = await deployment.create_noted("count", deployment.gate(), n=3)
    for deploy in range(1, 7):
        worker = await deployment.worker(crash_limit=0)
        await deployment.noted("start", task_id, times=deploy)
        worker.send(signal.SIGTERM)
        assert await worker.ended() == 0
        assert (await deployment.record(task_id)).progress.done == 3
    await deployment.worker()
    deployment.gate().touch()
    view = await deployment.done(task_id)
    assert (view.record.status, view.record.attempt, view.record.crashes) == ("completed", 7, 0)


async def drained(deployment: Deployment, task_id: str, times: int, *, limit: int) -> WorkerProcess:
    """A worker that has run the task, as the one of this number, and given it back at its drain."""
    worker = await deployment.worker(grace=0, drain_limit=limit)
    await deployment.noted("start", task_id, times=times)
    worker.send(signal.SIGTERM)
    assert await worker.ended() == 0
    return worker


async def test_a_task_that_drains_interrupt_too_often_fails_in_the_log_and_in_words(deployment: Deployment) -> None:
    """As when something sends SIGTERM to the workers that run it. What waits beside it is untouched."""
    task_id = await deployment.create_noted("count", deployment.gate("never"), n=3)
    for drains in range(1, 4):
        worker = await drained(deployment, task_id, drains, limit=2)
        assert len(worker.said("task.drained_too_often")) == (drains == 3)
    (line,) = worker.said("task.drained_too_often")
    assert (line["task_id"], line["tool"], line["limit"], line["level"]) == (task_id, "count", 2, "error")
    view = await deployment.read(task_id)
    assert (view.record.status, view.record.reason, view.record.drains) == ("failed", "drained", 3)
    assert (view.record.crashes, view.record.attempt) == (0, 3)


async def test_every_tenth_drain_of_a_task_is_in_the_log(deployment: Deployment) -> None:
    task_id = await deployment.create_noted("count", deployment.gate("never"), n=3)
    for drains in range(1, 11):
        worker = await drained(deployment, task_id, drains, limit=0)
        assert len(worker.said("task.drained_often")) == (drains == 10)
    assert (await deployment.record(task_id)).drains == 10


async def test_a_tool_that_will_not_stop_holds_the_worker_up_for_a_few_seconds_only(deployment: Deployment) -> None:
    worker = await deployment.worker(lease=180)
    task_id = await deployment.create_noted("mule", deployment.gate())
    await deployment.noted("start", task_id)
    worker.send(signal.SIGTERM)
    assert await worker.ended() == 0
    assert (await deployment.record(task_id)).reason == "drain"


async def test_tools_that_fill_the_executor_for_ever_do_not_keep_the_worker(deployment: Deployment) -> None:
    """asyncio's own pool has a few threads, and none may be free for the worker's own use."""
    worker = await deployment.worker(concurrency=50, lease=180)
    tasks = [await deployment.create_noted("sit_in_executor") for _ in range(40)]
    await deployment.noted("start", times=40)
    worker.send(signal.SIGTERM)
    assert await worker.ended() == 0
    for task_id in tasks:
        assert (await deployment.record(task_id)).reason == "drain"


async def test_a_worker_leaves_while_redis_is_down(fragile: Deployment, own_redis: PrivateRedis) -> None:
    """Its task is started again when its lease has lapsed."""
    worker = await fragile.worker(grace=0.2)
    task_id = await fragile.create_noted("walk", fragile.gate())
    await fragile.noted("start", task_id)
    own_redis.kill()
    worker.send(signal.SIGTERM)
    assert await worker.ended() == 0
    await asyncio.to_thread(own_redis.start)
    await fragile.worker()
    fragile.gate().touch()
    assert text_of_task(await fragile.done(task_id)).startswith("fence ")
    assert (await fragile.record(task_id)).attempt == 2


async def test_a_worker_leaves_while_redis_hangs(fragile: Deployment, own_redis: PrivateRedis) -> None:
    worker = await fragile.worker(grace=0.2, command_timeout=0.2)
    task_id = await fragile.create_noted("walk", fragile.gate())
    await fragile.noted("start", task_id)
    assert own_redis.process is not None
    own_redis.process.send_signal(signal.SIGSTOP)
    worker.send(signal.SIGTERM)
    try:
        assert await worker.ended() == 0
    finally:
        own_redis.process.send_signal(signal.SIGCONT)


async def test_what_ends_during_the_grace_while_redis_is_away_arrives_when_it_is_back(
    fragile: Deployment, own_redis: PrivateRedis
) -> None:
    worker = await fragile.worker(grace=30, lease=20)
    task_id = await fragile.create_noted("walk", fragile.gate())
    await fragile.noted("start", task_id)
    own_redis.kill()
    worker.send(signal.SIGTERM)
    fragile.gate().touch()
    await fragile.noted("finish", task_id)
    await eventually_async(lambda: worker.said("store.turn_failed"))
    await asyncio.to_thread(own_redis.start)
    assert await worker.ended() == 0
    assert text_of_task(await fragile.read(task_id)) == "fence 1"
