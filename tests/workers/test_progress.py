"""Progress: the tool is never held up, what is written is bounded, the first and the last word are never lost."""

import json
import signal
from time import monotonic

import pytest

from taskmill.engine.record import Progress
from taskmill.store.tasks.tasks import OPERATOR
from tests.support.results import text_of_task
from tests.support.waiting import PROMPTLY, eventually_async
from tests.workers.deployment import Deployment


@pytest.mark.parametrize("tool", ["count", "count_thread"])
async def test_thirty_thousand_reports_take_a_moment_and_the_last_is_kept(deployment: Deployment, tool: str) -> None:
    """The peer does 1,663 a second, and would take longer than `PROMPTLY`. From the loop, and from a thread."""
    await deployment.worker()
    deployment.gate().touch()
    gates = (deployment.gate(),) if tool == "count" else ()
    view = await deployment.done(await deployment.create_noted(tool, *gates, n=30_000))
    took = float(text_of_task(view))
    assert took < PROMPTLY
    assert view.record.progress == Progress(30_000, 30_000, "step 30000")
    assert view.record.progress.percent == 100
    written = [event for event in await deployment.events(view.record.id) if event.move == "progress"]
    assert 1 <= len(written) <= took * 20 + 3


async def test_the_first_report_is_seen_at_once_and_the_last_while_the_tool_still_runs(deployment: Deployment) -> None:
    await deployment.worker()
    for n in (1, 50):
        task_id = await deployment.create_noted("count", deployment.gate(f"{n}"), n=n)
        await deployment.noted("start", task_id)
        began = monotonic()
        view = await eventually_async(
            lambda task_id=task_id: deployment.read(task_id), lambda view: view.record.progress.done
        )
        assert monotonic() - began < PROMPTLY
        view = await eventually_async(
            lambda task_id=task_id: deployment.read(task_id), lambda view, n=n: view.record.progress.done == n
        )
        assert monotonic() - began < 2 * PROMPTLY
        assert view.record.status == "running"
        deployment.gate(f"{n}").touch()
        assert (await deployment.done(task_id)).record.progress.done == n


async def test_a_talkative_tool_writes_at_most_twenty_times_a_second(deployment: Deployment) -> None:
    """Each of several on one worker, and their values only rise."""
    await deployment.worker()
    tasks = [await deployment.create_noted("tick", seconds=1) for _ in range(4)]
    for task_id in tasks:
        view = await deployment.done(task_id)
        events = [event for event in await deployment.events(task_id) if event.move == "progress"]
        written = [event.facts["done"] for event in events]
        assert 3 <= len(written) <= 20 * (events[-1].at_ms - events[0].at_ms) / 1000 + 3
        assert written == sorted(set(written))
        assert view.record.progress.done == written[-1] == json.loads(text_of_task(view))


async def test_the_last_word_before_a_drain_and_before_a_retry_is_kept(deployment: Deployment) -> None:
    worker = await deployment.worker(grace=1)  # the words are said within it
    task_id = await deployment.create_noted("count", deployment.gate(), n=5000)
    await deployment.noted("start", task_id)
    worker.send(signal.SIGTERM)
    assert await worker.ended() == 0
    assert (await deployment.record(task_id)).progress == Progress(5000, 5000, "step 5000")
    await deployment.worker()
    retried = await deployment.create("say_and_crash")
    view = await eventually_async(lambda: deployment.read(retried), lambda view: view.record.failures == 1)
    assert view.record.progress == Progress(3, 7, "about to crash")


async def test_numbers_and_words_that_make_no_sense_hurt_nobody(deployment: Deployment) -> None:
    """Not finite, half a character, far too long, control characters: told as far as it can be."""
    worker = await deployment.worker()
    view = await deployment.done(await deployment.create("babble"))
    assert text_of_task(view) == "TypeError"
    progress = view.record.progress
    assert (progress.done, progress.total) == (None, None)
    assert progress.message is not None
    assert len(progress.message) == 1000
    # The board lives on.
    counting = await deployment.create_noted("count", deployment.gate(), n=3)
    await eventually_async(lambda: deployment.record(counting), lambda record: record.progress.done == 3)
    assert worker.code is None


async def test_a_cancelled_tasks_progress_stands_still(deployment: Deployment) -> None:
    await deployment.worker(lease=180)
    task_id = await deployment.create_noted("tick", seconds=30)
    await eventually_async(lambda: deployment.record(task_id), lambda record: record.progress.done)
    await deployment.store.cancel(task_id, OPERATOR)
    history = await deployment.events(task_id)
    other = await deployment.create_noted("count", deployment.gate(), n=3)
    await eventually_async(lambda: deployment.record(other), lambda record: record.progress.done == 3)
    assert await deployment.events(task_id) == history
