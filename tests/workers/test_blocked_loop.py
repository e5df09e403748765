"""A tool that blocks the event loop: named in the log, and neither it nor its neighbours lose their lease."""

from tests.support.waiting import eventually_async
from tests.workers.deployment import Stage


async def test_a_tool_that_blocks_the_loop_is_named_in_the_log_with_its_line_and_costs_nobody_a_lease(
    stage: Stage,
) -> None:
    worker = await stage.worker(lease=0.6)
    neighbour = await stage.create_noted("walk", stage.gate())
    await stage.noted("start", neighbour)
    release = stage.gate("release")
    blocking = await stage.create_noted("block", release)

    (line,) = (await eventually_async(lambda: worker.said("loop.blocked")))[:1]
    release.touch()
    assert (line["task_id"], line["tool"], line["level"]) == (blocking, "block", "warning")
    assert line["seconds"] >= 1
    assert line["at"].split(":")[0].endswith(("tools.py", "pathlib.py"))

    stage.gate().touch()
    for task in (blocking, neighbour):
        assert (await stage.done(task)).record.attempt == 1
    (free,) = await eventually_async(lambda: worker.said("loop.free"))
    assert free["seconds"] >= 1


async def test_a_worker_that_breathes_is_not_complained_about(stage: Stage) -> None:
    worker = await stage.worker()
    task = await stage.create_noted("nap", seconds=1.5)
    await stage.done(task)

    assert worker.said("loop.blocked") == []
