"""Many tasks that wait for answers on one worker of ten slots: no task waits for them, and they leave memory."""

import asyncio
import os
from pathlib import Path
from statistics import median

import pytest

from taskmill.engine.principal import ANONYMOUS
from tests.support.waiting import PROMPTLY, eventually_async
from tests.workers.deployment import Deployment, WorkerProcess

MANY, BALLAST = (1000, 150_000) if os.environ.get("TASKMILL_TEST_LONG") else (300, 500_000)
"""How many wait, and the bytes that each tool holds meanwhile."""
YES = {"action": "accept", "content": {"yes": True}}


async def start_delay(deployment: Deployment, tasks: int = 15) -> float:
    """Milliseconds from the creation of a task to its start, the median of some."""
    delays = []
    for _ in range(tasks):
        view = await deployment.done(await deployment.create_noted("quick"))
        assert view.record.started_ms is not None
        delays.append(view.record.started_ms - view.record.created_ms)
    return median(delays)


def memory(worker: WorkerProcess) -> int:
    """Bytes the process holds."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{worker.pid}/status").read_text().splitlines())
    return int(lines["VmRSS"].split()[0]) * 1024


@pytest.mark.timeout(180)
@pytest.mark.slow
async def test_many_waiting_tasks_neither_hold_slots_nor_stay_in_memory(deployment: Deployment) -> None:
    """1000 where TASKMILL_TEST_LONG is set. Measured with them on two busy cores: 4 ms to start alone, 6 beside those
    that wait, 5 beside those that are parked; the worker holds 77 MB, then 256, then 104. A second and a third thousand
    add nothing to that: 105, and 105."""
    worker = await deployment.worker(concurrency=10, lease=180)
    alone, empty = await start_delay(deployment), memory(worker)
    waiting = await asyncio.gather(*(deployment.create_noted("ask_and_linger", ballast=BALLAST) for _ in range(MANY)))
    for task_id in waiting:
        await eventually_async(lambda: deployment.record(task_id), lambda record: record.questions == 1, within=60)  # noqa: B023

    beside_them = await start_delay(deployment)
    full = memory(worker)
    await eventually_async(lambda: worker.log().count("task.parked"), lambda parked: parked == MANY, within=60)
    beside_parked = await start_delay(deployment)

    parked = memory(worker)
    print(
        f"start: {alone} ms alone, {beside_them} beside waiting, {beside_parked} beside parked; "
        f"{empty / 1e6:.0f} MB, {full / 1e6:.0f} with all waiting, {parked / 1e6:.0f} with all parked"
    )
    assert max(beside_them, beside_parked) < PROMPTLY * 1000
    assert full - empty >= MANY * BALLAST
    assert parked - empty <= (full - empty) / 3
    for task_id in waiting[:3]:
        assert await deployment.store.answer(task_id, ANONYMOUS, {"input-1": YES}) == 1
        assert (await deployment.done(task_id)).record.status == "completed"
