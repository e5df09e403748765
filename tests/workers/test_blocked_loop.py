"""A tool that blocks the event loop: named in the log, and neither it nor its neighbours lose their lease."""

import threading

import pytest
from structlog.testing import capture_logs

from taskmill.workers.attempts.active import ActiveTask, ActiveTasks
from taskmill.workers.services.loop_watchdog import LoopWatchdog
from tests.support.waiting import eventually_async
from tests.workers.deployment import Deployment


async def test_a_tool_that_blocks_the_loop_is_named_in_the_log_with_its_line_and_costs_nobody_a_lease(
    deployment: Deployment,
) -> None:
    worker = await deployment.worker(lease=0.6)
    neighbour = await deployment.create_noted("walk", deployment.gate())
    await deployment.noted("start", neighbour)
    release = deployment.gate("release")
    blocking = await deployment.create_noted("block", release)

    (line,) = (await eventually_async(lambda: worker.said("loop.blocked")))[:1]
    release.touch()
    assert (line["task_id"], line["tool"], line["level"]) == (blocking, "block", "warning")
    assert line["seconds"] >= 1
    assert line["at"].split(":")[0].endswith(("tools.py", "pathlib.py"))

    deployment.gate().touch()
    for task in (blocking, neighbour):
        assert (await deployment.done(task)).record.attempt == 1
    (free,) = await eventually_async(lambda: worker.said("loop.free"))
    assert free["seconds"] >= 1


async def test_a_worker_that_breathes_is_not_complained_about(deployment: Deployment) -> None:
    worker = await deployment.worker()
    task = await deployment.create_noted("nap", seconds=1.5)
    await deployment.done(task)

    assert worker.said("loop.blocked") == []


@pytest.mark.parametrize("is_busy", [True, False])
async def test_a_loop_that_holds_no_task_up_is_not_complained_about(is_busy: bool) -> None:
    """As when a worker on a busy machine takes long to start."""
    active = ActiveTasks(60)
    if is_busy:
        active.add(ActiveTask("t", 1, "dig", lease=60))
    watchdog = LoopWatchdog(active)
    with capture_logs() as logs:
        watchdog.start()
        threading.Event().wait(1.6)
        await watchdog.stop()

    assert ("loop.blocked" in [line["event"] for line in logs]) is is_busy
