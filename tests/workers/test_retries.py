"""Crashes and timeouts are tried again as the policy says; answers never are, even bad ones."""

import signal

import pytest

from taskmill.engine.outcome import Failed, Fault, Refused, Returned
from taskmill.engine.status import Move
from tests.support.results import text_of_task
from tests.support.waiting import PROMPTLY, eventually_async
from tests.workers.deployment import Deployment


async def test_a_crash_is_retried_with_doubling_delays(deployment: Deployment) -> None:
    """retries=2, backoff=0.2 s; the failures are counted, and nothing is left of them at the end.

    The poll is a minute: the worker knows when the next task is due.
    """
    worker = await deployment.worker(poll=60)
    task_id = await deployment.create_noted("flaky", failures=2)
    view = await deployment.done(task_id)
    assert text_of_task(view) == "attempt 3"
    assert (view.record.attempt, view.record.failures, view.record.crashes) == (3, 2, 0)
    assert (view.record.due_ms, view.record.reason) == (None, None)
    releases = [event for event in await deployment.events(task_id) if event.move is Move.RELEASE]
    assert [event.facts["due_ms"] - event.at_ms for event in releases] == [200, 400]
    assert [(event.facts["failures"], event.facts["reason"]) for event in releases] == [
        (1, "crashed"),
        (2, "crashed"),
    ]
    claims = [event for event in await deployment.events(task_id) if event.move is Move.CLAIM]
    for release, claim in zip(releases, claims[1:], strict=True):
        assert 0 <= claim.at_ms - release.facts["due_ms"] < PROMPTLY * 1000
    assert len(worker.said("tool.crashed")) == 2


async def test_while_it_waits_for_its_retry_a_task_is_pending_and_says_until_when(deployment: Deployment) -> None:
    await deployment.worker()
    task_id = await deployment.create_noted("flaky", failures=1)
    view = await eventually_async(lambda: deployment.read(task_id), lambda view: view.record.failures == 1)
    if view.record.status == "pending":  # it lasts 0.2 s
        assert view.record.reason == "crashed"
        assert view.record.due_ms is not None
    assert text_of_task(await deployment.done(task_id)) == "attempt 2"


async def test_when_the_retries_are_used_up_the_last_crash_is_blamed(deployment: Deployment) -> None:
    worker = await deployment.worker()
    task_id = await deployment.create_noted("flaky", failures=9)
    view = await deployment.done(task_id)
    assert isinstance(view.outcome, Returned)
    assert view.outcome.is_error
    assert (view.record.attempt, view.record.failures) == (3, 2)
    crashes = worker.said("tool.crashed")
    assert [line["attempt"] for line in crashes] == [1, 2, 3]
    assert "failure 3" in crashes[2]["exception"]
    assert text_of_task(view) == f"Error executing tool flaky (reference {crashes[2]['reference']})"


async def test_another_worker_may_run_the_retry(deployment: Deployment) -> None:
    """The count of failures travels with the task."""
    first = await deployment.worker(concurrency=1)
    task_id = await deployment.create_noted("flaky", failures=2)
    await deployment.noted("start", task_id)
    await eventually_async(lambda: first.said("task.released"))
    first.send(signal.SIGTERM)
    assert await first.ended() == 0
    await deployment.worker()
    assert text_of_task(await deployment.done(task_id)) == "attempt 3"


async def test_a_tool_error_is_an_answer_and_not_retried(deployment: Deployment) -> None:
    worker = await deployment.worker()
    task_id = await deployment.create_noted("refuse", how="ToolError")
    view = await deployment.done(task_id)
    assert isinstance(view.outcome, Returned)
    assert view.outcome.is_error
    assert text_of_task(view) == "Error executing tool refuse: No such report."
    assert await deployment.moves(task_id) == ["create", "claim", "complete"]
    assert len(deployment.notes("start")) == 1
    assert not worker.said("tool.crashed")


async def test_an_mcp_error_is_an_answer_and_not_retried(deployment: Deployment) -> None:
    await deployment.worker()
    task_id = await deployment.create_noted("refuse", how="MCPError")
    view = await deployment.done(task_id)
    assert view.outcome == Refused(-32050, "Come back later.", {"after": 5})
    assert view.record.status == "failed"
    assert await deployment.moves(task_id) == ["create", "claim", "fail"]
    assert len(deployment.notes("start")) == 1


@pytest.mark.parametrize("tool", ["slow_thread", "slow_start"])
async def test_an_attempt_that_runs_too_long_is_stopped(deployment: Deployment, tool: str) -> None:
    """A plain function sees `ctx.cancelled`, an async one gets CancelledError; 1 s and one retry for the latter."""
    await deployment.worker(lease=180)
    gates = () if tool == "slow_thread" else (deployment.gate(),)
    task_id = await deployment.create_noted(tool, *gates)
    attempts = 1 if tool == "slow_thread" else 2
    view = await deployment.done(task_id)
    assert isinstance(view.outcome, Failed)
    assert (view.outcome.fault, view.record.status, view.record.attempt) == (Fault.TIMEOUT, "failed", attempts)
    assert view.outcome.text == f"{tool} ran longer than its limit of {0.3 if attempts == 1 else 1:g} s."
    await deployment.noted("cancelled", task_id, times=attempts)


async def test_the_limit_is_for_each_attempt_and_a_timeout_is_retried(deployment: Deployment) -> None:
    worker = await deployment.worker()
    deployment.gate("open").touch()
    task_id = await deployment.create_noted("slow_start", deployment.gate("never"), deployment.gate("open"))
    view = await deployment.done(task_id)
    assert (text_of_task(view), view.record.failures) == ("attempt 2", 1)
    (timed_out,) = worker.said("tool.timed_out")
    assert timed_out["attempt"] == 1


async def test_a_tool_that_ignores_its_cancel_times_out_all_the_same(deployment: Deployment) -> None:
    """It gets five seconds to unwind, then its slot is given on; what it says later is fenced."""
    worker = await deployment.worker(concurrency=2, lease=180)
    task_id = await deployment.create_noted("stubborn", deployment.gate())
    neighbour = await deployment.create_noted("walk", deployment.gate())
    view = await deployment.done(task_id)
    assert isinstance(view.outcome, Failed)
    assert (view.outcome.fault, view.record.status) == (Fault.TIMEOUT, "failed")
    assert worker.said("tool.does_not_stop")
    deployment.gate().touch()
    assert text_of_task(await deployment.done(neighbour)) == "fence 1"
    await deployment.noted("finish", task_id)
    assert (await deployment.done(await deployment.create_noted("quick"))).record.status == "completed"
    assert await deployment.read(task_id) == view


async def test_a_timeout_error_of_the_tools_own_is_a_crash(deployment: Deployment) -> None:
    await deployment.worker()
    view = await deployment.done(await deployment.create("own_timeout"))
    assert isinstance(view.outcome, Returned)
    assert text_of_task(view).startswith("Error executing tool own_timeout (reference ")


async def test_an_unknown_tool_is_left_to_a_worker_that_has_it(deployment: Deployment) -> None:
    """a rolling deploy. No crash, no failure, and the old worker goes on."""
    old = await deployment.worker(without=("quick",))
    task_id = await deployment.create_noted("quick")
    view = await eventually_async(lambda: deployment.read(task_id), lambda view: view.record.reason == "unknown_tool")
    assert view.record.status == "pending"
    assert (await deployment.done(await deployment.create("echo", text="x"))).record.status == "completed"
    new = await deployment.worker()
    old.send(signal.SIGTERM)
    view = await deployment.done(task_id)
    assert (text_of_task(view), view.record.crashes, view.record.failures) == ("done", 0, 0)
    assert [note.pid for note in deployment.notes("start")] == [new.pid]
    assert await old.ended() == 0
