"""Processes that a tool starts: the worker's signals are not theirs, and they do not delay its end."""

import signal

import pytest

from tests.support.processes import lives
from tests.support.results import text_of_task
from tests.support.waiting import eventually_async
from tests.workers.deployment import Deployment, WorkerProcess


async def worker_of(deployment: Deployment, **settings: object) -> WorkerProcess:
    return await deployment.worker(server="process_tools", lease=180, **settings)  # type: ignore[arg-type]


async def neighbour(deployment: Deployment) -> str:
    """A task that runs beside the others until the gate is there."""
    task_id = await deployment.create("walk", journal=str(deployment.journal), gate=str(deployment.gate()))
    await deployment.noted("start", task_id)
    return task_id


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("tool", ["helpers_in_a_thread", "helpers_on_the_loop", "helpers_in_isolation"])
async def test_a_signal_that_ends_a_tools_helper_is_not_the_workers(
    deployment: Deployment, tool: str, number: signal.Signals
) -> None:
    worker = await worker_of(deployment)
    beside = await neighbour(deployment)
    task_id = await deployment.create(tool, number=int(number))
    view = await deployment.done(task_id, within=30)
    exit_code = 1 if number is signal.SIGINT else -number  # of an interrupted Python program
    assert text_of_task(view).split() == [str(exit_code)] * 2
    deployment.gate().touch()
    assert [(await deployment.done(task)).record.attempt for task in (task_id, beside)] == [1, 1]
    assert not worker.said("worker.draining")
    worker.send(signal.SIGTERM)
    assert await worker.ended() == 0


async def test_a_stock_workers_signals_are_not_a_helpers_either(deployment: Deployment) -> None:
    worker = await deployment.worker(server="process_tools", stock=True)
    task_id = await deployment.create("helpers_in_a_thread", number=int(signal.SIGTERM))
    view = await deployment.done(task_id, within=30)
    assert (text_of_task(view).split(), view.record.attempt) == (["-15", "-15"], 1)
    assert worker.code is None


@pytest.mark.parametrize("tool", ["pool_in_a_thread", "pool_in_isolation"])
async def test_a_pool_works_and_ends_with_its_block(deployment: Deployment, tool: str) -> None:
    await worker_of(deployment)
    view = await deployment.done(await deployment.create(tool, n=8), within=30)
    assert (text_of_task(view), view.record.attempt) == ("140", 1)


async def test_a_pool_that_is_given_up_leaves_no_process(deployment: Deployment) -> None:
    await worker_of(deployment)
    task_id = await deployment.create("impatient_pool", journal=str(deployment.journal))
    view = await deployment.done(task_id, within=30)
    assert (text_of_task(view), view.record.attempt) == ("gave up", 1)
    assert [note.pid for note in deployment.notes("child", task_id) if lives(note.pid)] == []


@pytest.mark.parametrize("how", ["pool", "executor", "daemon", "process"])
async def test_a_worker_ends_in_time_and_with_it_what_its_tools_left(deployment: Deployment, how: str) -> None:
    worker = await worker_of(deployment)
    task_id = await deployment.create("leave_processes", journal=str(deployment.journal), how=how)
    assert text_of_task(await deployment.done(task_id, within=30)) == how
    children = [note.pid for note in deployment.notes("child", task_id)]
    assert children
    worker.send(signal.SIGTERM)
    assert await worker.ended() == 0
    assert [pid for pid in children if lives(pid)] == []


@pytest.mark.parametrize("how", ["pool", "executor", "daemon", "process"])
async def test_what_an_isolated_tool_left_ends_with_the_tool(deployment: Deployment, how: str) -> None:
    await worker_of(deployment)
    task_id = await deployment.create("leave_processes_in_isolation", journal=str(deployment.journal), how=how)
    assert text_of_task(await deployment.done(task_id, within=30)) == how
    children = [note.pid for note in deployment.notes("child", task_id)]
    assert children
    await eventually_async(lambda: not any(lives(pid) for pid in children))
