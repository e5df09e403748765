"""The author's failure policy, obeyed by real workers: which errors, how long in between, until when."""

from dataclasses import replace

from taskmill.engine.outcome import Failed, Fault, Returned
from taskmill.engine.principal import ANONYMOUS
from taskmill.engine.record import NewTask
from taskmill.engine.status import Move
from tests.support.results import text_of_task
from tests.support.waiting import PROMPTLY, eventually_async
from tests.workers import tools
from tests.workers.deployment import Deployment


def with_policy(deployment: Deployment, tool: str, **arguments: object) -> NewTask:
    """A task as a server would store it: retries and deadline are the tool's."""
    policy = tools.mcp.policies()[tool]
    task = deployment.task(tool, journal=str(deployment.journal), **arguments)
    return replace(task, retries=policy.retries, deadline=policy.time_limit)


async def used_worker(deployment: Deployment) -> None:
    """A worker that has run a task: the first takes longer, and a deadline counts from the creation."""
    await deployment.worker()
    await deployment.done(await deployment.create_noted("quick"))


async def test_only_the_named_errors_are_tried_again(deployment: Deployment) -> None:
    await deployment.worker()
    again = await deployment.create_noted("fail_with", kinds=["ConnectionError", "Retry"])
    never = await deployment.create_noted("fail_with", kinds=["ConnectionError", "ValueError"])

    assert text_of_task(await deployment.done(again)) == "attempt 3"
    view = await deployment.done(never)
    assert isinstance(view.outcome, Returned)
    assert (view.outcome.is_error, view.record.attempt, view.record.reason) == (True, 2, "crashed")
    reasons = [event.facts["reason"] for event in await deployment.events(again) if event.move is Move.RELEASE]
    assert reasons == ["crashed", "asked_again"]


async def test_a_tool_may_say_when_it_wants_to_be_tried_again(deployment: Deployment) -> None:
    """Its backoff is a minute. The text of the exception is for the log."""
    worker = await deployment.worker()
    task_id = await deployment.create_noted("ask_again")

    assert text_of_task(await deployment.done(task_id)) == "attempt 3"
    releases = [event for event in await deployment.events(task_id) if event.move is Move.RELEASE]
    assert [event.facts["due_ms"] - event.at_ms for event in releases] == [200, 200]
    assert [line["detail"] for line in worker.said("tool.asked_again")] == ["not yet", "not yet"]


async def test_a_wait_strategy_of_tenacity_is_a_backoff(deployment: Deployment) -> None:
    await deployment.worker()
    task_id = await deployment.create_noted("fail_with_strategy")

    assert text_of_task(await deployment.done(task_id)) == "attempt 3"
    releases = [event for event in await deployment.events(task_id) if event.move is Move.RELEASE]
    assert [event.facts["due_ms"] - event.at_ms for event in releases] == [300, 300]


async def test_a_tool_that_runs_on_is_stopped_at_its_deadline(deployment: Deployment) -> None:
    await used_worker(deployment)
    view = await deployment.store.create(with_policy(deployment, "until_its_deadline", how="stay"))

    view = await deployment.done(view.record.id)

    assert view.outcome == Failed(Fault.DEADLINE, "until_its_deadline had not ended at its deadline, 3 s.")
    assert view.record.ended_ms is not None
    assert 3000 <= view.record.ended_ms - view.record.created_ms < 3000 + PROMPTLY * 1000
    await deployment.noted("cancelled")


async def test_no_retry_is_begun_that_would_be_too_late(deployment: Deployment) -> None:
    """backoff=0.5 s doubles: the attempts are at 0, 0.5 and 1.5 s, and the next would be at 3.5, too late."""
    await used_worker(deployment)
    view = await deployment.store.create(with_policy(deployment, "until_its_deadline", how="fail"))

    view = await deployment.done(view.record.id)

    assert (view.record.reason, view.record.attempt) == ("crashed", 3)
    assert [letter.record.id for letter in (await deployment.store.dead_letters()).views] == [view.record.id]


async def test_a_task_that_waits_for_an_answer_fails_at_its_deadline(deployment: Deployment) -> None:
    await used_worker(deployment)
    created = await deployment.store.create(with_policy(deployment, "until_its_deadline", how="ask"))
    task_id = created.record.id
    await eventually_async(lambda: deployment.read(task_id), lambda view: len(view.questions) == 1)

    view = await deployment.done(task_id)

    assert isinstance(view.outcome, Failed)
    assert (view.outcome.fault, view.record.reason) == (Fault.DEADLINE, "deadline")
    assert await deployment.store.answer(task_id, ANONYMOUS, {"input-1": {"action": "decline"}}) == 0


async def test_a_policy_that_crashes_means_no_retry_and_is_logged(deployment: Deployment) -> None:
    worker = await deployment.worker()
    view = await deployment.done(await deployment.create_noted("broken_policy"))

    assert view.record.attempt == 1
    assert text_of_task(view).startswith("Error executing tool broken_policy (reference ")
    (crash,) = worker.said("policy.crashed")
    assert "the predicate is broken" in crash["exception"]
