"""Tools that break, or try to take their process along: only their task is hurt, and what they say stays inside."""

import json

import pytest

from taskmill.engine.outcome import Failed, Fault, OutcomeKind, Refused, Returned
from tests.support.results import text_of_task
from tests.support.waiting import eventually_async
from tests.workers.deployment import Deployment

EXITS = ["SystemExit", "KeyboardInterrupt", "OutOfOrder"]


@pytest.mark.parametrize("how", EXITS)
@pytest.mark.parametrize("tool", ["leave", "leave_thread"])
async def test_a_tool_that_exits_fails_and_the_worker_goes_on(deployment: Deployment, tool: str, how: str) -> None:
    """`sys.exit()` in a tool ends a plain arq worker."""
    worker = await deployment.worker()
    neighbour = await deployment.create_noted("walk", deployment.gate())
    await deployment.noted("start", neighbour)
    view = await deployment.done(await deployment.create(tool, how=how))
    assert isinstance(view.outcome, Failed)
    assert (view.outcome.fault, view.record.status, view.record.reason) == (Fault.EXITED, "failed", "exited")
    assert view.outcome.text == f"{tool} tried to end its process ({how})."
    deployment.gate().touch()
    assert text_of_task(await deployment.done(neighbour)) == "fence 1"
    assert worker.code is None


@pytest.mark.parametrize("how", EXITS)
async def test_an_exit_in_a_task_that_a_tool_started_does_not_end_the_worker(deployment: Deployment, how: str) -> None:
    """Awaited, it is the tool's own; else the tool goes on."""
    worker = await deployment.worker()
    neighbour = await deployment.create_noted("walk", deployment.gate())
    await deployment.noted("start", neighbour)
    view = await deployment.done(await deployment.create("leave_behind", how=how, awaited=True))
    assert isinstance(view.outcome, Failed)
    assert view.outcome.fault is Fault.EXITED
    view = await deployment.done(await deployment.create("leave_behind", how=how, awaited=False))
    assert text_of_task(view) == "the other one left"
    deployment.gate().touch()
    assert text_of_task(await deployment.done(neighbour)) == "fence 1"
    assert worker.code is None
    # The interpreter tells of exceptions that nobody fetched; here the tool is the one who should have.
    worker.log_file.write_text(worker.log().replace("was never retrieved", "was left"))


async def test_an_exit_of_a_whole_task_group_fails_its_tool(deployment: Deployment) -> None:
    worker = await deployment.worker()
    view = await deployment.done(await deployment.create("leave_group"))
    assert isinstance(view.outcome, Failed)
    assert view.outcome.fault is Fault.EXITED
    assert (await deployment.done(await deployment.create_noted("quick"))).record.status == "completed"
    assert worker.code is None


async def test_a_crash_is_an_error_result_without_its_text_and_with_a_reference(deployment: Deployment) -> None:
    """a crash's own text stays on the server, with a correlation id."""
    worker = await deployment.worker()
    view = await deployment.done(await deployment.create("crash", secret="hunter2"))
    assert isinstance(view.outcome, Returned)
    assert view.outcome.is_error
    assert view.record.status == "completed"
    assert "hunter2" not in json.dumps(view.outcome.value) + str(await deployment.events(view.record.id))
    (crashed,) = await eventually_async(lambda: worker.said("tool.crashed"))
    assert text_of_task(view) == f"Error executing tool crash (reference {crashed['reference']})"
    assert crashed["task_id"] == view.record.id
    assert view.record.outcome_kind is OutcomeKind.CRASHED
    (settled,) = await eventually_async(lambda: worker.said("task.settled"))
    assert settled["outcome"] == "crashed"
    assert "RuntimeError: hunter2 in the exception" in crashed["exception"]


async def test_the_log_holds_neither_arguments_nor_results(deployment: Deployment) -> None:
    """The libraries' lines from INFO on are in the same log."""
    worker = await deployment.worker()
    for task_id in (
        await deployment.create("echo", text="confidential"),
        await deployment.create("echo", text="confidential", unknown=1),
        await deployment.create("echo", text={"confidential": 1}),
        await deployment.create_noted("refuse", how="confidential"),
        await deployment.create("crash", secret="x", more="confidential"),
    ):
        await deployment.done(task_id)
    await eventually_async(lambda: len(worker.said("task.settled")) == 5)
    assert "confidential" not in worker.log()


async def test_a_result_that_cannot_be_written_is_told(deployment: Deployment) -> None:
    await deployment.worker()
    view = await deployment.done(await deployment.create("half"))
    assert isinstance(view.outcome, Failed)
    assert view.outcome.fault is Fault.NOT_JSON


async def test_an_answer_nested_too_deep_to_be_written_is_told_and_the_worker_goes_on(deployment: Deployment) -> None:
    worker = await deployment.worker()
    view = await deployment.done(await deployment.create("nest", depth=10))
    assert isinstance(view.outcome, Refused)
    view = await deployment.done(await deployment.create("nest", depth=100_000))
    assert isinstance(view.outcome, Failed)
    assert worker.code is None


async def test_a_result_over_the_limit_is_told(deployment: Deployment) -> None:
    await deployment.worker(max_result=1000)
    view = await deployment.done(await deployment.create("echo", text="x" * 2000))
    assert isinstance(view.outcome, Failed)
    assert (view.outcome.fault, view.record.status) == (Fault.TOO_LARGE, "failed")


async def test_arguments_that_nobody_can_read_are_told(deployment: Deployment) -> None:
    task = deployment.task("echo", text="x")
    await deployment.store.create(task)
    await deployment.redis.set(deployment.keys.args(task.id), b"\x01wl not sealed by anybody we know of")
    worker = await deployment.worker()
    view = await deployment.done(task.id)
    assert isinstance(view.outcome, Failed)
    assert view.outcome.fault is Fault.UNREADABLE
    assert (await deployment.done(await deployment.create_noted("quick"))).record.status == "completed"
    assert worker.code is None
