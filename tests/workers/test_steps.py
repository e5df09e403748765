"""Durable steps and state: run once, read back by every later attempt, and clear errors where that cannot be."""

import asyncio
import json
import signal
from time import monotonic
from typing import Any

import pytest

from taskmill.engine.outcome import Failed, Fault
from taskmill.engine.principal import ANONYMOUS
from tests.support.invariants import is_parked
from tests.support.redis_server import PrivateRedis
from tests.support.results import text_of_task
from tests.support.waiting import eventually_async
from tests.workers.deployment import Stage

YES = {"action": "accept", "content": {"yes": True}}


async def result(stage: Stage, task_id: str) -> Any:
    return json.loads(text_of_task(await stage.done(task_id)))


async def test_steps_run_once_and_a_retry_reads_them_back(stage: Stage) -> None:
    """What is read back is what the first attempt returned, a tuple as a list in both; state as it was last saved."""
    await stage.worker()
    stage.gate().touch()
    task_id = await stage.create_noted("two_steps", stage.gate(), how="crash")

    said = await result(stage, task_id)

    assert said == {"pair": [1, 2], "where": "in a thread", "state": {"seen": [1, 2]}, "attempt": 2}
    assert [note.attempt for note in stage.notes("first")] == [1]
    assert [note.attempt for note in stage.notes("second")] == [1]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_steps_are_not_run_again_when_their_worker_goes(stage: Stage, number: signal.Signals) -> None:
    first = await stage.worker()
    task_id = await stage.create_noted("two_steps", stage.gate("never"), stage.gate(), how="fine")
    await stage.noted("between", task_id)
    first.send(number)
    await first.ended()
    await stage.worker()
    stage.gate().touch()

    said = await result(stage, task_id)

    assert (said["pair"], said["attempt"]) == ([1, 2], 2)
    assert len(stage.notes("first")) == len(stage.notes("second")) == 1


async def test_steps_outlive_a_restart_of_redis(frail: Stage, own_redis: PrivateRedis) -> None:
    first = await frail.worker()
    task_id = await frail.create_noted("two_steps", frail.gate("never"), frail.gate(), how="fine")
    await frail.noted("between", task_id)
    own_redis.kill()
    await first.kill()
    await asyncio.to_thread(own_redis.start)
    await frail.worker()
    frail.gate().touch()

    assert (await result(frail, task_id))["pair"] == [1, 2]
    assert len(frail.notes("first")) == len(frail.notes("second")) == 1


async def test_no_step_is_begun_while_the_lease_may_have_lapsed(frail: Stage, own_redis: PrivateRedis) -> None:
    """Behind an outage as long as a lease the next attempt is on its way, and would run it too."""
    await frail.worker(lease=0.6, crash_limit=100)
    task_id = await frail.create_noted("step_behind_gate", frail.gate())
    await frail.noted("start", task_id)
    own_redis.kill()
    down_since = monotonic()
    await eventually_async(lambda: monotonic() - down_since > 0.6)
    frail.gate().touch()
    ready = await frail.noted("ready", task_id)
    await eventually_async(lambda: monotonic() - ready.at > 0.2)

    starting = monotonic()
    await asyncio.to_thread(own_redis.start)

    assert text_of_task(await frail.done(task_id, within=10)) == "taken"
    (effect,) = frail.notes("effect")
    assert effect.at > starting


@pytest.mark.parametrize(
    ("how", "fault", "text"),
    [
        ("not_json", Fault.NOT_JSON, "The result of step 'parse' cannot be written as JSON: make it of dict, list,"),
        ("in_group", Fault.NOT_JSON, "The result of step 'parse' cannot be written as JSON: make it of dict, list,"),
        ("too_large", Fault.TOO_LARGE, "The result of step 'load' is 2,000,0"),
        ("nested", Fault.MISMATCH, "Step 'inner' is inside step 'outer': put one behind the other."),
        ("asks", Fault.MISMATCH, "A question is inside step 'outer': put one behind the other."),
        ("state", Fault.NOT_JSON, "The task's state cannot be written as JSON"),
        ("big_state", Fault.TOO_LARGE, "The task's state is 100,0"),
    ],
)
async def test_what_cannot_be_kept_ends_the_task_with_an_error_that_names_it(
    stage: Stage, how: str, fault: Fault, text: str
) -> None:
    """Another attempt would only do the same: three retries are left."""
    await stage.worker()
    task_id = await stage.create_noted("bad_step", how=how)

    view = await stage.done(task_id)

    assert isinstance(view.outcome, Failed)
    assert (view.outcome.fault, view.record.attempt) == (fault, 1)
    assert view.outcome.text.startswith(text)


async def test_a_tool_that_was_changed_meanwhile_fails_and_names_the_step(stage: Stage) -> None:
    await stage.worker()
    task_id = await stage.create_noted("bad_step", how="changed")

    view = await stage.done(task_id)

    assert isinstance(view.outcome, Failed)
    assert (view.outcome.fault, view.record.attempt) == (Fault.MISMATCH, 2)
    assert view.outcome.text == (
        "The tool runs step 'new' where its record has step 'old': it was changed while this task was under way."
    )


async def test_steps_beside_each_other_are_known_again_by_their_arguments(stage: Stage) -> None:
    """By `asyncio.gather`, in another order the second time."""
    await stage.worker()
    task_id = await stage.create_noted("steps_beside")

    view = await stage.done(task_id)

    assert view.outcome is not None
    assert view.record.attempt == 2
    assert [len(stage.notes(f"square {number}")) for number in range(3)] == [1, 1, 1]


async def test_a_step_that_raised_is_run_again_and_the_ones_behind_it_are_not(stage: Stage) -> None:
    await stage.worker()
    task_id = await stage.create_noted("step_that_fails")

    assert (await stage.done(task_id)).record.attempt == 2
    assert [note.attempt for note in stage.notes("fails")] == [1, 2]
    assert [note.attempt for note in stage.notes("works")] == [1]


async def test_state_is_saved_by_hand_and_with_each_question(stage: Stage) -> None:
    await stage.worker()
    stage.gate().touch()
    task_id = await stage.create_noted("remember", stage.gate())
    await eventually_async(lambda: stage.read(task_id), lambda view: is_parked(view.record))
    assert await stage.store.answer(task_id, ANONYMOUS, {"input-1": YES}) == 1

    assert await result(stage, task_id) == {"starts": 2}
