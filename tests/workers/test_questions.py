"""Questions of a running task: put together, answered one by one, and read back by a later attempt."""

import signal
from typing import Any

import pytest

from taskmill.engine.outcome import Failed, Fault
from taskmill.engine.principal import ANONYMOUS
from taskmill.store.tasks.tasks import OPERATOR
from tests.support.results import text_of_task
from tests.support.waiting import eventually_async
from tests.workers.deployment import Deployment

YES = {"action": "accept", "content": {"yes": True}}
NO = {"action": "decline"}


async def asked(deployment: Deployment, task_id: str, number: int) -> dict[str, Any]:
    """The questions of a task, once there are so many open."""
    view = await eventually_async(lambda: deployment.read(task_id), lambda view: len(view.questions) == number)
    assert view.record.status == "input_required"
    assert view.record.questions == number
    return dict(view.questions)


async def answer(deployment: Deployment, task_id: str, **answers: dict[str, Any]) -> int:
    """Answer `input_1=...`; how many were taken."""
    named = {name.replace("_", "-"): value for name, value in answers.items()}
    return await deployment.store.answer(task_id, ANONYMOUS, named)


async def test_two_questions_are_put_at_once_and_answered_one_by_one(deployment: Deployment) -> None:
    """By `asyncio.gather`; the first answer is kept while the second is awaited, and it arrives by a push."""
    await deployment.worker(lease=180)
    deployment.gate().touch()
    task_id = await deployment.create_noted("ask_two", deployment.gate())
    questions = await asked(deployment, task_id, 2)
    assert [(key, question["params"]["message"]) for key, question in questions.items()] == [
        ("input-1", "One?"),
        ("input-2", "Two?"),
    ]
    assert await answer(deployment, task_id, input_2=NO) == 1
    assert list(await asked(deployment, task_id, 1)) == ["input-1"]
    assert await answer(deployment, task_id, input_1=YES, input_2=YES, input_9=YES) == 1
    view = await deployment.done(task_id)
    assert text_of_task(view) == "accept decline at attempt 1"
    assert await deployment.moves(task_id) == ["create", "claim", "ask", "ask", "answer", "resume", "complete"]


async def test_answers_that_come_in_quick_succession_are_all_heard(deployment: Deployment) -> None:
    await deployment.worker(lease=180, concurrency=20)
    deployment.gate().touch()
    tasks = [await deployment.create_noted("ask_two", deployment.gate()) for _ in range(20)]
    for task_id in tasks:
        await asked(deployment, task_id, 2)
    for task_id in tasks:
        await answer(deployment, task_id, input_1=YES)
        await answer(deployment, task_id, input_2=NO)
    for task_id in tasks:
        assert text_of_task(await deployment.done(task_id)) == "accept decline at attempt 1"


async def test_answers_given_while_the_worker_is_deaf_are_found(deployment: Deployment) -> None:
    """Its subscription is cut off; it looks by itself when the line is back."""
    await deployment.worker(lease=180)
    deployment.gate().touch()
    task_id = await deployment.create_noted("ask_two", deployment.gate())
    await asked(deployment, task_id, 2)
    await deployment.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    await answer(deployment, task_id, input_1=YES, input_2=YES)
    assert text_of_task(await deployment.done(task_id)) == "accept accept at attempt 1"


async def test_a_cancel_reaches_a_tool_that_waits_for_an_answer(deployment: Deployment) -> None:
    await deployment.worker(lease=180, poll=60, concurrency=1)
    task_id = await deployment.create_noted("ask_two", deployment.gate())
    await asked(deployment, task_id, 2)
    await deployment.store.cancel(task_id, OPERATOR)
    assert (await deployment.done(await deployment.create_noted("quick"))).record.status == "completed"
    assert await answer(deployment, task_id, input_1=YES) == 0


@pytest.mark.usefixtures("short_lease")
async def test_a_killed_worker_loses_neither_questions_nor_answers(deployment: Deployment) -> None:
    """the tool runs again from the top under the same keys; what was answered meanwhile is read back."""
    first = await deployment.worker()
    task_id = await deployment.create_noted("ask_two", deployment.gate())
    before = await asked(deployment, task_id, 2)
    await first.kill()
    assert await asked(deployment, task_id, 2) == before
    assert await answer(deployment, task_id, input_1=YES) == 1
    await deployment.worker()
    await deployment.noted("start", task_id, times=2)
    assert list(await asked(deployment, task_id, 1)) == ["input-2"]
    assert await answer(deployment, task_id, input_2=NO) == 1
    await deployment.noted("answered", task_id)
    deployment.gate().touch()
    view = await deployment.done(task_id)
    assert text_of_task(view) == "accept decline at attempt 2"
    assert view.record.crashes == 1


@pytest.mark.usefixtures("short_lease")
async def test_unanswered_questions_are_put_again_by_the_next_attempt(deployment: Deployment) -> None:
    first = await deployment.worker()
    task_id = await deployment.create_noted("ask_two", deployment.gate())
    before = await asked(deployment, task_id, 2)
    await first.kill()
    await deployment.worker()
    await deployment.noted("start", task_id, times=2)
    await eventually_async(lambda: deployment.record(task_id), lambda record: record.status == "input_required")
    assert await asked(deployment, task_id, 2) == before
    deployment.gate().touch()
    await answer(deployment, task_id, input_1=YES, input_2=YES)
    assert text_of_task(await deployment.done(task_id)) == "accept accept at attempt 2"


@pytest.mark.usefixtures("short_lease")
async def test_a_worker_that_dies_after_all_answers_repeats_the_tool_without_asking(deployment: Deployment) -> None:
    first = await deployment.worker()
    task_id = await deployment.create_noted("ask_two", deployment.gate())
    await asked(deployment, task_id, 2)
    await answer(deployment, task_id, input_1=YES, input_2=NO)
    await deployment.noted("answered", task_id)
    await first.kill()
    await deployment.worker()
    await deployment.noted("answered", task_id, times=2)
    deployment.gate().touch()
    assert text_of_task(await deployment.done(task_id)) == "accept decline at attempt 2"
    assert (await deployment.moves(task_id)).count("ask") == 2


async def test_a_drain_while_it_waits_parks_the_task_with_its_questions(deployment: Deployment) -> None:
    first = await deployment.worker()
    task_id = await deployment.create_noted("ask_two", deployment.gate())
    await asked(deployment, task_id, 2)
    first.send(signal.SIGTERM)
    assert await first.ended() == 0
    record = await deployment.record(task_id)
    assert (record.status, record.questions, record.worker) == ("input_required", 2, None)
    # Also while nobody runs it.
    assert await answer(deployment, task_id, input_1=YES) == 1
    await deployment.worker()
    await asked(deployment, task_id, 1)
    deployment.gate().touch()
    await answer(deployment, task_id, input_2=YES)
    view = await deployment.done(task_id)
    assert (text_of_task(view), view.record.crashes) == ("accept accept at attempt 2", 0)


@pytest.mark.usefixtures("short_lease")
async def test_a_tool_that_asks_something_else_the_second_time_fails_with_a_clear_error(deployment: Deployment) -> None:
    """a tool whose questions no longer match its record."""
    first = await deployment.worker()
    task_id = await deployment.create_noted("ask_otherwise")
    await asked(deployment, task_id, 1)
    await first.kill()
    await deployment.worker()
    view = await deployment.done(task_id)
    assert isinstance(view.outcome, Failed)
    assert (view.outcome.fault, view.record.status) == (Fault.MISMATCH, "failed")
    assert view.outcome.text == "Question input-1 differs from the one asked before."


async def test_an_answer_that_does_not_fit_is_the_tools_to_handle(deployment: Deployment) -> None:
    """An accepted answer against the question's schema raises ValueError in the tool; here nobody catches it."""
    worker = await deployment.worker()
    task_id = await deployment.create_noted("ask_two", deployment.gate())
    await asked(deployment, task_id, 2)
    await answer(deployment, task_id, input_1={"action": "accept", "content": {"yes": "confidential"}}, input_2=NO)
    view = await deployment.done(task_id)
    assert text_of_task(view).startswith("Error executing tool ask_two (reference ")
    assert "confidential" not in worker.log()
