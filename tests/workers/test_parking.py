"""Tasks that wait for answers: they hold no place, leave memory, and come back with the last answer."""

import asyncio
import signal
from time import monotonic

from taskmill.engine.principal import ANONYMOUS
from taskmill.engine.record import TaskView
from taskmill.store.tasks.tasks import OPERATOR
from tests.support.invariants import is_parked
from tests.support.redis_server import PrivateRedis
from tests.support.results import text_of_task
from tests.support.waiting import eventually_async
from tests.workers.deployment import Deployment

YES = {"action": "accept", "content": {"yes": True}}


async def asking(deployment: Deployment, task_id: str) -> TaskView:
    """Wait until its question is open."""
    return await eventually_async(lambda: deployment.read(task_id), lambda view: len(view.questions) == 1)


async def parked(deployment: Deployment, task_id: str) -> TaskView:
    """Wait until nobody holds it in memory."""
    return await eventually_async(lambda: deployment.read(task_id), lambda view: is_parked(view.record))


async def answer(deployment: Deployment, task_id: str) -> None:
    assert await deployment.store.answer(task_id, ANONYMOUS, {"input-1": YES}) == 1


async def test_a_task_that_waits_for_an_answer_holds_no_place(deployment: Deployment) -> None:
    await deployment.worker(concurrency=1, lease=180, poll=60)
    waiting = await deployment.create_noted("ask_and_stay", deployment.gate())
    await asking(deployment, waiting)

    assert text_of_task(await deployment.done(await deployment.create_noted("quick"))) == "done"

    deployment.gate().touch()
    await answer(deployment, waiting)
    assert text_of_task(await deployment.done(waiting)) == "accept at attempt 1"


async def test_a_task_that_waits_leaves_memory_and_its_answer_brings_it_back(deployment: Deployment) -> None:
    """The tool is cancelled where it waits and runs again from the top; that counts neither as crash nor as failure."""
    worker = await deployment.worker(lease=180, poll=60)
    task_id = await deployment.create_noted("ask_and_leave", deployment.gate())
    view = await parked(deployment, task_id)
    assert (view.record.status, list(view.questions)) == ("input_required", ["input-1"])
    await deployment.noted("unwound", task_id)
    await eventually_async(lambda: worker.said("task.parked"))

    deployment.gate().touch()
    await answer(deployment, task_id)

    view = await deployment.done(task_id)
    assert text_of_task(view) == "accept at attempt 2"
    assert (view.record.crashes, view.record.failures) == (0, 0)
    assert await deployment.moves(task_id) == ["create", "claim", "ask", "park", "wake", "claim", "complete"]


async def test_tasks_that_are_answered_together_go_on_within_the_concurrency(deployment: Deployment) -> None:
    await deployment.worker(concurrency=2, lease=180)
    tasks = [await deployment.create_noted("ask_and_stay", deployment.gate()) for _ in range(6)]
    for task_id in tasks:
        await asking(deployment, task_id)

    for task_id in tasks:
        await answer(deployment, task_id)
    await deployment.noted("answered", times=2)
    for task_id in tasks:
        assert (await deployment.record(task_id)).status == "running"
    deployment.gate().touch()

    for task_id in tasks:
        assert text_of_task(await deployment.done(task_id)) == "accept at attempt 1"
    changes = sorted(
        [(note.at, 1) for note in deployment.notes("answered")] + [(note.at, -1) for note in deployment.notes("finish")]
    )
    together = [sum(change for _, change in changes[: at + 1]) for at in range(len(changes))]
    assert max(together) == 2


async def test_the_time_it_waits_does_not_count_against_its_timeout(deployment: Deployment) -> None:
    """timeout=1."""
    await deployment.worker(lease=180)
    deployment.gate().touch()
    task_id = await deployment.create_noted("ask_and_stay_limited", deployment.gate())
    await asking(deployment, task_id)
    asked_at = monotonic()
    await eventually_async(lambda: monotonic() - asked_at > 1.1)

    await answer(deployment, task_id)

    assert text_of_task(await deployment.done(task_id)) == "accept at attempt 1"


async def test_behind_the_answer_its_timeout_counts_again(deployment: Deployment) -> None:
    await deployment.worker(lease=180)
    task_id = await deployment.create_noted("ask_and_stay_limited", deployment.gate())
    await asking(deployment, task_id)
    await answer(deployment, task_id)

    view = await deployment.done(task_id)

    assert view.record.reason == "timeout"


async def test_a_tool_that_works_beside_its_question_is_not_parked(deployment: Deployment) -> None:
    """It reports progress: thirty reports, 20 ms apart, are six times park_after."""
    await deployment.worker(lease=180)
    task_id = await deployment.create_noted("ask_and_work", deployment.gate())
    await eventually_async(lambda: deployment.record(task_id), lambda record: (record.progress.done or 0) >= 30)

    assert not is_parked(await deployment.record(task_id))
    await answer(deployment, task_id)
    deployment.gate().touch()
    assert text_of_task(await deployment.done(task_id)) == "accept at attempt 1"


async def test_a_tool_whose_other_work_has_ended_is_parked(deployment: Deployment) -> None:
    await deployment.worker(lease=180)
    task_id = await deployment.create_noted("ask_and_work", deployment.gate())
    await asking(deployment, task_id)
    deployment.gate().touch()

    await parked(deployment, task_id)

    await answer(deployment, task_id)
    assert text_of_task(await deployment.done(task_id)) == "accept at attempt 2"


async def test_a_plain_function_that_asks_is_parked_too_and_its_thread_ends(deployment: Deployment) -> None:
    await deployment.worker(lease=180)
    task_id = await deployment.create_noted("ask_from_thread")
    await parked(deployment, task_id)
    await deployment.noted("unwound", task_id)

    await answer(deployment, task_id)

    assert text_of_task(await deployment.done(task_id)) == "accept at attempt 2"


async def test_a_drain_does_not_wait_for_a_task_that_waits(deployment: Deployment) -> None:
    leaving = await deployment.worker(grace=60, lease=180)
    task_id = await deployment.create_noted("ask_and_stay", deployment.gate())
    await asking(deployment, task_id)

    leaving.send(signal.SIGTERM)

    assert await leaving.ended() == 0
    assert is_parked(await deployment.record(task_id))
    await deployment.worker()
    deployment.gate().touch()
    await answer(deployment, task_id)
    assert text_of_task(await deployment.done(task_id)) == "accept at attempt 2"


async def test_a_task_that_asks_during_the_drain_is_parked_at_once(deployment: Deployment) -> None:
    leaving = await deployment.worker(grace=60, lease=180)
    task_id = await deployment.create_noted("ask_after", deployment.gate())
    await deployment.noted("start", task_id)
    leaving.send(signal.SIGTERM)
    await eventually_async(lambda: leaving.said("worker.draining"))

    deployment.gate().touch()

    assert await leaving.ended() == 0
    assert is_parked(await deployment.record(task_id))


async def test_the_death_of_the_worker_that_parked_it_is_nothing_to_a_task(deployment: Deployment) -> None:
    first = await deployment.worker()
    task_id = await deployment.create_noted("ask_and_leave", deployment.gate())
    await parked(deployment, task_id)
    await first.kill()
    await deployment.worker()
    deployment.gate().touch()

    await answer(deployment, task_id)

    view = await deployment.done(task_id)
    assert (text_of_task(view), view.record.crashes) == ("accept at attempt 2", 0)


async def test_a_parked_task_is_cancelled_at_once(deployment: Deployment) -> None:
    await deployment.worker(lease=180)
    task_id = await deployment.create_noted("ask_and_leave", deployment.gate())
    await parked(deployment, task_id)

    assert await deployment.store.cancel(task_id, OPERATOR)

    assert (await deployment.record(task_id)).status == "cancelled"
    assert await deployment.store.answer(task_id, ANONYMOUS, {"input-1": YES}) == 0


async def test_a_parked_task_survives_a_restart_of_redis(fragile: Deployment, own_redis: PrivateRedis) -> None:
    await fragile.worker()
    task_id = await fragile.create_noted("ask_and_leave", fragile.gate())
    await parked(fragile, task_id)
    own_redis.kill()
    await asyncio.to_thread(own_redis.start)
    fragile.gate().touch()

    await eventually_async(lambda: fragile.store.answer(task_id, ANONYMOUS, {"input-1": YES}))

    assert text_of_task(await fragile.done(task_id)) == "accept at attempt 2"


async def test_a_stock_worker_parks_a_task_too(deployment: Deployment) -> None:
    await deployment.worker(stock=True)
    task_id = await deployment.create_noted("ask_and_leave", deployment.gate())
    await parked(deployment, task_id)
    deployment.gate().touch()

    await answer(deployment, task_id)

    assert text_of_task(await deployment.done(task_id)) == "accept at attempt 2"
