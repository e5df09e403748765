"""What a queued task says of the workers of its queue: true from the first look, and soon after one has started."""

from typing import Any

import pytest

from taskmill.engine.record import TaskRecord, TaskView
from taskmill.engine.status import Status
from taskmill.store.tasks import wait_estimate
from taskmill.store.tasks.wait_estimate import WaitEstimate
from tests.support.waiting import eventually_async

WORKER = {"worker": "w", "queue": "app/default", "queues": ["app/default"], "concurrency": 1, "running": 0}


def queued(task_id: str = "t", ahead: int = 0) -> TaskView:
    record = TaskRecord(task_id, "dig", "app/default", "p", Status.PENDING, created_ms=0, updated_ms=0, seq=1)
    return TaskView(record, ahead=ahead)


class Workers:
    """What the store knows of live workers."""

    def __init__(self, *known: dict[str, Any]) -> None:
        self.known = list(known)
        self.reads = 0

    async def __call__(self) -> list[dict[str, Any]]:
        self.reads += 1
        return self.known


async def test_the_first_look_sees_a_worker_that_has_just_started() -> None:
    assert (await WaitEstimate(Workers(WORKER)).apply_to(queued(ahead=1))).is_served


async def test_a_queue_that_had_no_worker_is_looked_at_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sooner than reports of workers are otherwise read again, which here is an hour."""
    monkeypatch.setattr(wait_estimate, "_FRESH", 3600.0)
    workers = Workers()
    estimate = WaitEstimate(workers)
    assert not (await estimate.apply_to(queued())).is_served
    workers.known.append(WORKER)

    async def is_served() -> bool:
        return (await estimate.apply_to(queued())).is_served

    await eventually_async(is_served)


async def test_many_readers_share_one_reading_of_the_workers() -> None:
    workers = Workers(WORKER)
    estimate = WaitEstimate(workers)
    for _ in range(50):
        await estimate.apply_to(queued())
    assert workers.reads == 1


async def test_a_task_from_its_own_queue_says_so_only_while_no_slot_is_free() -> None:
    estimate = WaitEstimate(Workers({**WORKER, "concurrency": 2, "running": 2}))
    roomy = WaitEstimate(Workers({**WORKER, "concurrency": 2, "running": 1}))
    for one in (estimate, roomy):
        one.note_own_queue("inner")
    assert (await estimate.apply_to(queued("inner"))).waits_for_caller
    assert not (await estimate.apply_to(queued("another"))).waits_for_caller
    assert not (await roomy.apply_to(queued("inner"))).waits_for_caller
