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
from tests.workers.deployment import Stage

YES = {"action": "accept", "content": {"yes": True}}


async def asking(stage: Stage, task_id: str) -> TaskView:
    """Wait until its question is open."""
    return await eventually_async(lambda: stage.read(task_id), lambda view: len(view.questions) == 1)


async def parked(stage: Stage, task_id: str) -> TaskView:
    """Wait until nobody holds it in memory."""
    return await eventually_async(lambda: stage.read(task_id), lambda view: is_parked(view.record))


async def answer(stage: Stage, task_id: str) -> None:
    assert await stage.store.answer(task_id, ANONYMOUS, {"input-1": YES}) == 1


async def test_a_task_that_waits_for_an_answer_holds_no_place(stage: Stage) -> None:
    await stage.worker(concurrency=1, lease=60, poll=60)
    waiting = await stage.create_noted("ask_and_stay", stage.gate())
    await asking(stage, waiting)

    assert text_of_task(await stage.done(await stage.create_noted("quick"), within=1)) == "done"

    stage.gate().touch()
    await answer(stage, waiting)
    assert text_of_task(await stage.done(waiting)) == "accept at attempt 1"


async def test_a_task_that_waits_leaves_memory_and_its_answer_brings_it_back(stage: Stage) -> None:
    """The tool is cancelled where it waits and runs again from the top; that counts neither as crash nor as failure."""
    worker = await stage.worker(lease=60, poll=60)
    task_id = await stage.create_noted("ask_and_leave", stage.gate())
    view = await parked(stage, task_id)
    assert (view.record.status, list(view.questions)) == ("input_required", ["input-1"])
    await stage.noted("unwound", task_id)
    await eventually_async(lambda: worker.said("task.parked"))

    stage.gate().touch()
    await answer(stage, task_id)

    view = await stage.done(task_id, within=1)
    assert text_of_task(view) == "accept at attempt 2"
    assert (view.record.crashes, view.record.failures) == (0, 0)
    assert await stage.moves(task_id) == ["create", "claim", "ask", "park", "wake", "claim", "complete"]


async def test_tasks_that_are_answered_together_go_on_within_the_concurrency(stage: Stage) -> None:
    await stage.worker(concurrency=2, lease=60)
    tasks = [await stage.create_noted("ask_and_stay", stage.gate()) for _ in range(6)]
    for task_id in tasks:
        await asking(stage, task_id)

    for task_id in tasks:
        await answer(stage, task_id)
    await stage.noted("answered", times=2)
    for task_id in tasks:
        assert (await stage.record(task_id)).status == "running"
    stage.gate().touch()

    for task_id in tasks:
        assert text_of_task(await stage.done(task_id)) == "accept at attempt 1"
    changes = sorted(
        [(note.at, 1) for note in stage.notes("answered")] + [(note.at, -1) for note in stage.notes("finish")]
    )
    together = [sum(change for _, change in changes[: at + 1]) for at in range(len(changes))]
    assert max(together) == 2


async def test_the_time_it_waits_does_not_count_against_its_timeout(stage: Stage) -> None:
    """timeout=0.5."""
    await stage.worker(lease=60)
    task_id = await stage.create_noted("ask_and_stay", stage.gate())
    await asking(stage, task_id)
    asked_at = monotonic()
    await eventually_async(lambda: monotonic() - asked_at > 0.6)

    await answer(stage, task_id)
    await stage.noted("answered", task_id)
    stage.gate().touch()

    assert text_of_task(await stage.done(task_id)) == "accept at attempt 1"


async def test_behind_the_answer_its_timeout_counts_again(stage: Stage) -> None:
    await stage.worker(lease=60)
    task_id = await stage.create_noted("ask_and_stay", stage.gate())
    await asking(stage, task_id)
    await answer(stage, task_id)

    view = await stage.done(task_id)

    assert view.record.reason == "timeout"


async def test_a_tool_that_works_beside_its_question_is_not_parked(stage: Stage) -> None:
    """It reports progress: thirty reports, 20 ms apart, are six times park_after."""
    await stage.worker(lease=60)
    task_id = await stage.create_noted("ask_and_work", stage.gate())
    await eventually_async(lambda: stage.record(task_id), lambda record: (record.progress.done or 0) >= 30)

    assert not is_parked(await stage.record(task_id))
    await answer(stage, task_id)
    stage.gate().touch()
    assert text_of_task(await stage.done(task_id)) == "accept at attempt 1"


async def test_a_tool_whose_other_work_has_ended_is_parked(stage: Stage) -> None:
    await stage.worker(lease=60)
    task_id = await stage.create_noted("ask_and_work", stage.gate())
    await asking(stage, task_id)
    stage.gate().touch()

    await parked(stage, task_id)

    await answer(stage, task_id)
    assert text_of_task(await stage.done(task_id)) == "accept at attempt 2"


async def test_a_plain_function_that_asks_is_parked_too_and_its_thread_ends(stage: Stage) -> None:
    await stage.worker(lease=60)
    task_id = await stage.create_noted("ask_from_thread")
    await parked(stage, task_id)
    await stage.noted("unwound", task_id)

    await answer(stage, task_id)

    assert text_of_task(await stage.done(task_id)) == "accept at attempt 2"


async def test_a_drain_does_not_wait_for_a_task_that_waits(stage: Stage) -> None:
    leaving = await stage.worker(grace=60, lease=60)
    task_id = await stage.create_noted("ask_and_stay", stage.gate())
    await asking(stage, task_id)

    leaving.send(signal.SIGTERM)

    assert await leaving.ended(within=3) == 0
    assert is_parked(await stage.record(task_id))
    await stage.worker()
    stage.gate().touch()
    await answer(stage, task_id)
    assert text_of_task(await stage.done(task_id)) == "accept at attempt 2"


async def test_a_task_that_asks_during_the_drain_is_parked_at_once(stage: Stage) -> None:
    leaving = await stage.worker(grace=60, lease=60)
    task_id = await stage.create_noted("ask_after", stage.gate())
    await stage.noted("start", task_id)
    leaving.send(signal.SIGTERM)
    await eventually_async(lambda: leaving.said("worker.draining"))

    stage.gate().touch()

    assert await leaving.ended(within=3) == 0
    assert is_parked(await stage.record(task_id))


async def test_the_death_of_the_worker_that_parked_it_is_nothing_to_a_task(stage: Stage) -> None:
    first = await stage.worker()
    task_id = await stage.create_noted("ask_and_leave", stage.gate())
    await parked(stage, task_id)
    await first.kill()
    await stage.worker()
    stage.gate().touch()

    await answer(stage, task_id)

    view = await stage.done(task_id)
    assert (text_of_task(view), view.record.crashes) == ("accept at attempt 2", 0)


async def test_a_parked_task_is_cancelled_at_once(stage: Stage) -> None:
    await stage.worker(lease=60)
    task_id = await stage.create_noted("ask_and_leave", stage.gate())
    await parked(stage, task_id)

    assert await stage.store.cancel(task_id, OPERATOR)

    assert (await stage.record(task_id)).status == "cancelled"
    assert await stage.store.answer(task_id, ANONYMOUS, {"input-1": YES}) == 0


async def test_a_parked_task_survives_a_restart_of_redis(frail: Stage, own_redis: PrivateRedis) -> None:
    await frail.worker()
    task_id = await frail.create_noted("ask_and_leave", frail.gate())
    await parked(frail, task_id)
    own_redis.kill()
    await asyncio.to_thread(own_redis.start)
    frail.gate().touch()

    await eventually_async(lambda: frail.store.answer(task_id, ANONYMOUS, {"input-1": YES}))

    assert text_of_task(await frail.done(task_id)) == "accept at attempt 2"


async def test_a_stock_worker_parks_a_task_too(stage: Stage) -> None:
    await stage.worker(stock=True)
    task_id = await stage.create_noted("ask_and_leave", stage.gate())
    await parked(stage, task_id)
    stage.gate().touch()

    await answer(stage, task_id)

    assert text_of_task(await stage.done(task_id)) == "accept at attempt 2"
