"""A worker that dies or stands still: its tasks go to another, and its late word counts for nothing."""

import signal
import subprocess
import sys
from time import monotonic

import pytest

from taskmill.engine.outcome import Failed, Fault
from taskmill.engine.status import Move
from tests.support.results import text_of_task
from tests.support.waiting import PROMPTLY, eventually_async
from tests.workers.deployment import HERE, Deployment

pytestmark = pytest.mark.usefixtures("short_lease")


async def claimed_for(deployment: Deployment, task_id: str) -> float:
    """Seconds from the claim of the worker that died to that of the next."""
    moments = [event.at_ms for event in await deployment.events(task_id) if event.move in (Move.CLAIM, Move.RECLAIM)]
    return (moments[1] - moments[0]) / 1000


async def test_a_killed_workers_task_runs_again_when_its_lease_has_lapsed(deployment: Deployment) -> None:
    """at-least-once; one terminal event, and the dead worker is counted."""
    first = await deployment.worker()
    task_id = await deployment.create_noted("walk", deployment.gate())
    assert (await deployment.noted("start", task_id)).pid == first.pid
    second = await deployment.worker()
    await first.kill()
    began = monotonic()
    again = await deployment.noted("start", task_id, times=2)
    assert again.at - began < 1 + PROMPTLY
    assert await claimed_for(deployment, task_id) >= 1
    assert (again.pid, again.attempt, again.fence) == (second.pid, 2, 2)
    deployment.gate().touch()
    view = await deployment.done(task_id)
    assert text_of_task(view) == "fence 2"
    assert (view.record.crashes, view.record.failures) == (1, 0)
    assert await deployment.moves(task_id) == ["create", "claim", "reclaim", "complete"]


@pytest.mark.slow
async def test_with_default_settings_it_runs_again_when_fifteen_seconds_have_passed(deployment: Deployment) -> None:
    """with programs started the ordinary way; a worker that starts after the death serves as well."""
    deployment.settings = {"redis_url": deployment.settings["redis_url"]}
    order = f'{{"settings": {{"redis_url": "{deployment.settings["redis_url"]}"}}}}'
    program = [sys.executable, str(HERE / "run_worker.py"), order]
    with subprocess.Popen(program, stderr=subprocess.DEVNULL) as first:
        task_id = await deployment.create_noted("walk", deployment.gate())
        assert (await deployment.noted("start", task_id)).pid == first.pid
        first.kill()
    began = monotonic()
    await deployment.worker()
    again = await deployment.noted("start", task_id, times=2)
    assert again.at - began < 15 + PROMPTLY
    assert await claimed_for(deployment, task_id) >= 15
    deployment.gate().touch()
    assert text_of_task(await deployment.done(task_id)) == "fence 2"


async def test_all_tasks_of_a_killed_worker_are_taken_over(deployment: Deployment) -> None:
    first = await deployment.worker(concurrency=20)
    tasks = [await deployment.create_noted("walk", deployment.gate("first"), deployment.gate()) for _ in range(20)]
    await deployment.noted("start", times=20)
    await first.kill()
    await deployment.worker(concurrency=20)
    deployment.gate().touch()
    for task_id in tasks:
        view = await deployment.done(task_id)
        assert (view.record.attempt, view.record.crashes, view.record.status) == (2, 1, "completed")


async def test_a_task_that_kills_every_worker_is_given_up(deployment: Deployment) -> None:
    """Its neighbours are not: they run on."""
    for _ in range(3):
        await deployment.worker(lease=0.4, crash_limit=1)
    poison = await deployment.create_noted("die", lives=99)
    view = await deployment.done(poison)
    assert view.outcome == Failed(Fault.POISONED, "Every worker that ran this task died (2 times).")
    assert (view.record.status, view.record.crashes, view.record.reason) == ("failed", 2, "poisoned")
    assert await deployment.moves(poison) == ["create", "claim", "reclaim", "fail"]
    codes = await eventually_async(lambda: sorted([worker.code for worker in deployment.workers], key=str))
    assert codes == [-9, -9, None]
    task_id = await deployment.create_noted("quick")
    assert (await deployment.done(task_id)).record.status == "completed"


async def test_a_task_that_survives_within_the_limit_completes(deployment: Deployment) -> None:
    for _ in range(3):
        await deployment.worker(lease=0.4, crash_limit=2)
    task_id = await deployment.create_noted("die", lives=2)
    view = await deployment.done(task_id)
    assert (text_of_task(view), view.record.crashes, view.record.attempt) == ("survived", 2, 3)


async def test_a_paused_workers_late_result_and_progress_change_nothing(deployment: Deployment) -> None:
    """fenced. The other attempt is still under way when the late word comes, or the tool is told to stop before it."""
    mine, yours = deployment.gate("mine"), deployment.gate("yours")
    paused = await deployment.worker()
    task_id = await deployment.create_noted("block", mine, yours)
    await deployment.noted("start", task_id)
    paused.send(signal.SIGSTOP)
    await deployment.worker()
    await deployment.noted("start", task_id, times=2)
    mine.touch()
    before = await deployment.events(task_id)
    paused.send(signal.SIGCONT)
    await eventually_async(lambda: paused.said("task.word_too_late") or paused.said("lease.lost"))
    view = await deployment.read(task_id)
    assert await deployment.events(task_id) == before
    assert (view.record.status, view.record.fence, view.record.progress.done) == ("running", 2, None)
    yours.touch()
    assert text_of_task(await deployment.done(task_id)) == "fence 2"
    assert (await deployment.record(task_id)).progress.message == "word of attempt 2"
    # The worker that was paused goes on with others.
    assert (await deployment.done(await deployment.create_noted("quick"))).record.status == "completed"
    assert paused.code is None


async def test_a_paused_worker_learns_that_its_lease_is_lost(deployment: Deployment) -> None:
    """The tool is cancelled, and the slot is free again."""
    paused = await deployment.worker(concurrency=1)
    task_id = await deployment.create_noted("walk", deployment.gate("never"), deployment.gate())
    await deployment.noted("start", task_id)
    paused.send(signal.SIGSTOP)
    await deployment.worker(concurrency=1)
    await deployment.noted("start", task_id, times=2)
    paused.send(signal.SIGCONT)
    assert (await deployment.noted("cancelled", task_id)).pid == paused.pid
    other = await deployment.create_noted("quick")
    assert (await deployment.noted("start", other)).pid == paused.pid
    deployment.gate().touch()
    assert text_of_task(await deployment.done(task_id)) == "fence 2"


async def test_a_result_that_comes_after_the_other_attempts_result_changes_nothing(deployment: Deployment) -> None:
    """exactly one terminal state."""
    mine, yours = deployment.gate("mine"), deployment.gate("yours")
    paused = await deployment.worker()
    task_id = await deployment.create_noted("block", mine, yours)
    await deployment.noted("start", task_id)
    paused.send(signal.SIGSTOP)
    await deployment.worker()
    yours.touch()
    ended = await deployment.done(task_id)
    history = await deployment.events(task_id)
    mine.touch()
    paused.send(signal.SIGCONT)
    await eventually_async(lambda: paused.said("task.word_too_late") or paused.said("lease.lost"))
    assert await deployment.read(task_id) == ended
    assert await deployment.events(task_id) == history


async def test_a_lone_paused_worker_starts_its_own_task_again_and_stops_the_older_attempt(
    deployment: Deployment,
) -> None:
    """Whatever it does first when it wakes, renew or claim, one attempt is left and the task ends once."""
    paused = await deployment.worker()
    task_id = await deployment.create_noted("walk", deployment.gate())
    await deployment.noted("start", task_id)
    for _ in range(3):
        paused.send(signal.SIGSTOP)
        lapsed = await deployment.redis.zscore(deployment.keys.queue("default"), task_id)

        async def now() -> float:
            seconds, micros = await deployment.redis.time()
            return float(seconds * 1000 + micros / 1000)

        await eventually_async(now, lambda at, lapsed=lapsed: at > lapsed + 50)
        paused.send(signal.SIGCONT)
        await eventually_async(
            lambda: deployment.redis.zscore(deployment.keys.queue("default"), task_id),
            lambda ends, lapsed=lapsed: ends > lapsed,
        )
    deployment.gate().touch()
    view = await deployment.done(task_id)
    assert text_of_task(view) == f"fence {view.record.fence}"
    await eventually_async(
        lambda: len(deployment.notes("start")) == len(deployment.notes("finish")) + len(deployment.notes("cancelled"))
    )


async def test_a_worker_that_blocks_its_loop_keeps_its_lease_and_its_neighbours(deployment: Deployment) -> None:
    """a tool that blocks the loop must not lose its lease. Longer than a lease; another worker is waiting."""
    blocking = await deployment.worker(lease=2)
    neighbour = await deployment.create_noted("walk", deployment.gate())
    await deployment.noted("start", neighbour)
    task_id = await deployment.create_noted("block", deployment.gate())
    since = (await deployment.noted("start", task_id)).at
    other = await deployment.worker(lease=2, poll=0.05)
    await eventually_async(monotonic, lambda now: now > since + 2.5)
    deployment.gate().touch()
    for each in (task_id, neighbour):
        view = await deployment.done(each)
        assert (text_of_task(view), view.record.attempt, view.record.crashes) == ("fence 1", 1, 0)
    assert {note.pid for note in deployment.notes("start")} == {blocking.pid}
    assert other.code is None


async def test_a_result_that_waits_while_another_tool_blocks_the_loop_is_not_lost(deployment: Deployment) -> None:
    """The neighbour has ended and only its ending is unsaid: its lease must be kept until that is settled."""
    await deployment.worker(lease=0.9)
    waiting = await deployment.create_noted("nudged")
    await deployment.noted("start", waiting)
    await deployment.create_noted("nudge", seconds=1.1)
    await deployment.noted("finish", waiting)
    await deployment.worker(lease=0.9, poll=0.02)
    view = await deployment.done(waiting)
    assert (text_of_task(view), view.record.attempt, view.record.crashes) == ("fence 1", 1, 0)
