"""A cancel reaches the tool: at once by a push, else with the next renewal of its lease."""

import asyncio
from time import monotonic

import pytest

from taskmill.store.settings import StoreSettings
from taskmill.store.tasks.redis_store import RedisTaskStore
from taskmill.store.tasks.tasks import OPERATOR
from tests.support.deafening import Deafening
from tests.support.waiting import PROMPTLY, eventually_async
from tests.workers.deployment import Deployment


@pytest.mark.parametrize("tool", ["walk", "march"])
async def test_a_running_tool_hears_of_a_cancel_at_once(deployment: Deployment, tool: str) -> None:
    """An async tool gets CancelledError, a plain one sees `ctx.cancelled`. The lease is long: this is the push."""
    await deployment.worker(lease=180)
    delays = []
    for _ in range(5):
        task_id = await deployment.create_noted(tool, deployment.gate())
        await deployment.noted("start", task_id)
        began = monotonic()
        assert await deployment.store.cancel(task_id, OPERATOR)
        delays.append((await deployment.noted("cancelled", task_id)).at - began)
        assert await deployment.moves(task_id) == ["create", "claim", "cancel"]
    assert max(delays) < PROMPTLY


@pytest.mark.parametrize("tool", ["walk", "march"])
async def test_a_cancel_whose_push_is_missed_is_learned_by_renewal(deployment: Deployment, tool: str) -> None:
    """renew replies `lost`. Every subscriber is cut off in the same moment as the cancel."""
    worker = await deployment.worker(lease=1.5)
    deaf = RedisTaskStore(Deafening(deployment.redis), StoreSettings(redis_url=deployment.settings["redis_url"]))  # type: ignore[arg-type]
    task_id = await deployment.create_noted(tool, deployment.gate())
    await deployment.noted("start", task_id)
    assert await deaf.cancel(task_id, OPERATOR)
    await deployment.noted("cancelled", task_id)
    assert worker.said("lease.lost")
    assert not worker.said("task.cancel_heard")


async def test_a_cancel_before_the_start_means_it_never_runs(deployment: Deployment) -> None:
    task_id = await deployment.create_noted("quick")
    assert await deployment.store.cancel(task_id, OPERATOR)
    await deployment.worker()
    later = await deployment.create_noted("quick")
    await deployment.done(later)
    assert [note.task_id for note in deployment.notes("start")] == [later]
    assert await deployment.moves(task_id) == ["create", "cancel"]


async def test_a_cancelled_task_frees_its_slot(deployment: Deployment) -> None:
    await deployment.worker(lease=180, poll=60, concurrency=1)
    task_id = await deployment.create_noted("walk", deployment.gate())
    await deployment.noted("start", task_id)
    waiting = await deployment.create_noted("quick")
    await deployment.store.cancel(task_id, OPERATOR)
    assert (await deployment.done(waiting)).record.status == "completed"


async def test_a_cancel_and_a_finish_at_the_same_moment_end_the_task_once(deployment: Deployment) -> None:
    """Whichever is first; the invariants behind the test say that there is one end."""
    await deployment.worker(concurrency=20)
    ended = []
    for attempt in range(10):
        tasks = [await deployment.create_noted("walk", deployment.gate(f"{attempt}")) for _ in range(8)]
        for task_id in tasks:
            await deployment.noted("start", task_id)
        deployment.gate(f"{attempt}").touch()
        for task_id in tasks:
            cancelled = await deployment.store.cancel(task_id, OPERATOR)
            status = (await deployment.done(task_id)).record.status
            assert status == ("cancelled" if cancelled else "completed")
            ended.append(status)
    assert len(ended) == 80


async def test_many_cancels_at_once_all_arrive(deployment: Deployment) -> None:
    await deployment.worker(lease=180, concurrency=50)
    tasks = [await deployment.create_noted("walk", deployment.gate()) for _ in range(50)]
    await deployment.noted("start", times=50)
    await asyncio.gather(*(deployment.store.cancel(task_id, OPERATOR) for task_id in tasks))
    await deployment.noted("cancelled", times=50)


async def test_a_cancelled_tool_that_will_not_stop_changes_nothing_any_more(deployment: Deployment) -> None:
    """It takes its slot for a while, then runs on beside it; its last words are fenced."""
    worker = await deployment.worker(lease=180)
    task_id = await deployment.create_noted("mule", deployment.gate())
    await deployment.noted("start", task_id)
    await deployment.store.cancel(task_id, OPERATOR)
    await deployment.noted("cancelled", task_id)
    history = await deployment.events(task_id)
    deployment.gate().touch()
    await deployment.noted("finish", task_id)
    assert (await deployment.done(await deployment.create_noted("quick"))).record.status == "completed"
    assert await deployment.events(task_id) == history
    await eventually_async(lambda: worker.code, lambda code: code is None)
