"""Tools that break, or try to take their process along: only their task is hurt, and what they say stays inside."""

import json

import pytest

from taskmill.engine.outcome import Failed, Fault, Refused, Returned
from tests.support.results import text_of_task
from tests.support.waiting import eventually_async
from tests.workers.deployment import Stage

EXITS = ["SystemExit", "KeyboardInterrupt", "OutOfOrder"]


@pytest.mark.parametrize("how", EXITS)
@pytest.mark.parametrize("tool", ["leave", "leave_thread"])
async def test_a_tool_that_exits_fails_and_the_worker_goes_on(stage: Stage, tool: str, how: str) -> None:
    """`sys.exit()` in a tool ends a plain arq worker."""
    worker = await stage.worker()
    neighbour = await stage.create_noted("walk", stage.gate())
    await stage.noted("start", neighbour)
    view = await stage.done(await stage.create(tool, how=how))
    assert isinstance(view.outcome, Failed)
    assert (view.outcome.fault, view.record.status, view.record.reason) == (Fault.EXITED, "failed", "exited")
    assert view.outcome.text == f"{tool} tried to end its process ({how})."
    stage.gate().touch()
    assert text_of_task(await stage.done(neighbour)) == "fence 1"
    assert worker.code is None


@pytest.mark.parametrize("how", EXITS)
async def test_an_exit_in_a_task_that_a_tool_started_does_not_end_the_worker(stage: Stage, how: str) -> None:
    """Awaited, it is the tool's own; else the tool goes on."""
    worker = await stage.worker()
    neighbour = await stage.create_noted("walk", stage.gate())
    await stage.noted("start", neighbour)
    view = await stage.done(await stage.create("leave_behind", how=how, awaited=True))
    assert isinstance(view.outcome, Failed)
    assert view.outcome.fault is Fault.EXITED
    view = await stage.done(await stage.create("leave_behind", how=how, awaited=False))
    assert text_of_task(view) == "the other one left"
    stage.gate().touch()
    assert text_of_task(await stage.done(neighbour)) == "fence 1"
    assert worker.code is None
    # The interpreter tells of exceptions that nobody fetched; here the tool is the one who should have.
    worker.log_file.write_text(worker.log().replace("was never retrieved", "was left"))


async def test_an_exit_of_a_whole_task_group_fails_its_tool(stage: Stage) -> None:
    worker = await stage.worker()
    view = await stage.done(await stage.create("leave_group"))
    assert isinstance(view.outcome, Failed)
    assert view.outcome.fault is Fault.EXITED
    assert (await stage.done(await stage.create_noted("quick"))).record.status == "completed"
    assert worker.code is None


async def test_a_crash_is_an_error_result_without_its_text_and_with_a_reference(stage: Stage) -> None:
    """a crash's own text stays on the server, with a correlation id."""
    worker = await stage.worker()
    view = await stage.done(await stage.create("crash", secret="hunter2"))
    assert isinstance(view.outcome, Returned)
    assert view.outcome.is_error
    assert view.record.status == "completed"
    assert "hunter2" not in json.dumps(view.outcome.value) + str(await stage.events(view.record.id))
    (crashed,) = await eventually_async(lambda: worker.said("tool.crashed"))
    assert text_of_task(view) == f"Error executing tool crash (reference {crashed['reference']})"
    assert crashed["task_id"] == view.record.id
    assert "RuntimeError: hunter2 in the exception" in crashed["exception"]


async def test_the_log_holds_neither_arguments_nor_results(stage: Stage) -> None:
    """The libraries' lines from INFO on are in the same log."""
    worker = await stage.worker()
    for task_id in (
        await stage.create("echo", text="confidential"),
        await stage.create("echo", text="confidential", unknown=1),
        await stage.create("echo", text={"confidential": 1}),
        await stage.create_noted("refuse", how="confidential"),
        await stage.create("crash", secret="x", more="confidential"),
    ):
        await stage.done(task_id)
    await eventually_async(lambda: len(worker.said("task.settled")) == 5)
    assert "confidential" not in worker.log()


async def test_a_result_that_cannot_be_written_is_told(stage: Stage) -> None:
    await stage.worker()
    view = await stage.done(await stage.create("half"))
    assert isinstance(view.outcome, Failed)
    assert view.outcome.fault is Fault.NOT_JSON


async def test_an_answer_nested_too_deep_to_be_written_is_told_and_the_worker_goes_on(stage: Stage) -> None:
    worker = await stage.worker()
    view = await stage.done(await stage.create("nest", depth=10))
    assert isinstance(view.outcome, Refused)
    view = await stage.done(await stage.create("nest", depth=100_000), within=3)
    assert isinstance(view.outcome, Failed)
    assert worker.code is None


async def test_a_result_over_the_limit_is_told(stage: Stage) -> None:
    await stage.worker(max_result=1000)
    view = await stage.done(await stage.create("echo", text="x" * 2000))
    assert isinstance(view.outcome, Failed)
    assert (view.outcome.fault, view.record.status) == (Fault.TOO_LARGE, "failed")


async def test_arguments_that_nobody_can_read_are_told(stage: Stage) -> None:
    task = stage.task("echo", text="x")
    await stage.store.create(task)
    await stage.redis.set(stage.keys.args(task.id), b"\x01wl not sealed by anybody we know of")
    worker = await stage.worker()
    view = await stage.done(task.id)
    assert isinstance(view.outcome, Failed)
    assert view.outcome.fault is Fault.UNREADABLE
    assert (await stage.done(await stage.create_noted("quick"))).record.status == "completed"
    assert worker.code is None
