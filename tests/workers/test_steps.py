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
from tests.workers.deployment import Deployment

YES = {"action": "accept", "content": {"yes": True}}


async def result(deployment: Deployment, task_id: str) -> Any:
    return json.loads(text_of_task(await deployment.done(task_id)))


async def test_steps_run_once_and_a_retry_reads_them_back(deployment: Deployment) -> None:
    """What is read back is what the first attempt returned, a tuple as a list in both; state as it was last saved."""
    await deployment.worker()
    deployment.gate().touch()
    task_id = await deployment.create_noted("two_steps", deployment.gate(), how="crash")

    said = await result(deployment, task_id)

    assert said == {"pair": [1, 2], "where": "in a thread", "state": {"seen": [1, 2]}, "attempt": 2}
    assert [note.attempt for note in deployment.notes("first")] == [1]
    assert [note.attempt for note in deployment.notes("second")] == [1]


@pytest.mark.usefixtures("short_lease")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_steps_are_not_run_again_when_their_worker_goes(deployment: Deployment, number: signal.Signals) -> None:
    first = await deployment.worker()
    task_id = await deployment.create_noted("two_steps", deployment.gate("never"), deployment.gate(), how="fine")
    await deployment.noted("between", task_id)
    first.send(number)
    await first.ended()
    await deployment.worker()
    deployment.gate().touch()

    said = await result(deployment, task_id)

    assert (said["pair"], said["attempt"]) == ([1, 2], 2)
    assert len(deployment.notes("first")) == len(deployment.notes("second")) == 1


async def test_steps_outlive_a_restart_of_redis(fragile: Deployment, own_redis: PrivateRedis) -> None:
    first = await fragile.worker()
    task_id = await fragile.create_noted("two_steps", fragile.gate("never"), fragile.gate(), how="fine")
    await fragile.noted("between", task_id)
    own_redis.kill()
    await first.kill()
    await asyncio.to_thread(own_redis.start)
    await fragile.worker()
    fragile.gate().touch()

    assert (await result(fragile, task_id))["pair"] == [1, 2]
    assert len(fragile.notes("first")) == len(fragile.notes("second")) == 1


async def test_no_step_is_begun_while_the_lease_may_have_lapsed(fragile: Deployment, own_redis: PrivateRedis) -> None:
    """Behind an outage as long as a lease the next attempt is on its way, and would run it too."""
    await fragile.worker(lease=0.6, crash_limit=100)
    task_id = await fragile.create_noted("step_behind_gate", fragile.gate())
    await fragile.noted("start", task_id)
    own_redis.kill()
    down_since = monotonic()
    await eventually_async(lambda: monotonic() - down_since > 0.6)
    fragile.gate().touch()
    ready = await fragile.noted("ready", task_id)
    await eventually_async(lambda: monotonic() - ready.at > 0.2)

    starting = monotonic()
    await asyncio.to_thread(own_redis.start)

    assert text_of_task(await fragile.done(task_id)) == "taken"
    (effect,) = fragile.notes("effect")
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
    deployment: Deployment, how: str, fault: Fault, text: str
) -> None:
    """Another attempt would only do the same: three retries are left."""
    await deployment.worker()
    task_id = await deployment.create_noted("bad_step", how=how)

    view = await deployment.done(task_id)

    assert isinstance(view.outcome, Failed)
    assert (view.outcome.fault, view.record.attempt) == (fault, 1)
    assert view.outcome.text.startswith(text)


async def test_a_tool_that_was_changed_meanwhile_fails_and_names_the_step(deployment: Deployment) -> None:
    await deployment.worker()
    task_id = await deployment.create_noted("bad_step", how="changed")

    view = await deployment.done(task_id)

    assert isinstance(view.outcome, Failed)
    assert (view.outcome.fault, view.record.attempt) == (Fault.MISMATCH, 2)
    assert view.outcome.text == (
        "The tool runs step 'new' where its record has step 'old': it was changed while this task was under way."
    )


async def test_steps_beside_each_other_are_known_again_by_their_arguments(deployment: Deployment) -> None:
    """By `asyncio.gather`, in another order the second time."""
    await deployment.worker()
    task_id = await deployment.create_noted("steps_beside")

    view = await deployment.done(task_id)

    assert view.outcome is not None
    assert view.record.attempt == 2
    assert [len(deployment.notes(f"square {number}")) for number in range(3)] == [1, 1, 1]


async def test_a_step_that_raised_is_run_again_and_the_ones_behind_it_are_not(deployment: Deployment) -> None:
    await deployment.worker()
    task_id = await deployment.create_noted("step_that_fails")

    assert (await deployment.done(task_id)).record.attempt == 2
    assert [note.attempt for note in deployment.notes("fails")] == [1, 2]
    assert [note.attempt for note in deployment.notes("works")] == [1]


async def test_state_is_saved_by_hand_and_with_each_question(deployment: Deployment) -> None:
    await deployment.worker()
    deployment.gate().touch()
    task_id = await deployment.create_noted("remember", deployment.gate())
    await eventually_async(lambda: deployment.read(task_id), lambda view: is_parked(view.record))
    assert await deployment.store.answer(task_id, ANONYMOUS, {"input-1": YES}) == 1

    assert await result(deployment, task_id) == {"starts": 2}
