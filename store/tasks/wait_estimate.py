"""How long a queued task will wait, from what the live workers report of themselves."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from time import monotonic
from typing import Any

from taskmill.engine.record import TaskView

__all__ = ["WaitEstimate"]

_FRESH = 5.0
"""Seconds for which the workers' reports are used; many readers share one reading."""

ReadWorkers = Callable[[], Awaitable[list[dict[str, Any]]]]


class WaitEstimate:
    """Estimates for one process."""

    def __init__(self, read_workers: ReadWorkers) -> None:
        self._read = read_workers
        self._workers: list[dict[str, Any]] = []
        self._until = 0.0

    async def apply_to(self, view: TaskView) -> TaskView:
        """The view; of a queued task with how long it will wait, or with the fact that no worker serves its queue."""
        if view.ahead is None:
            return view
        if monotonic() >= self._until:
            self._until = monotonic() + _FRESH
            self._workers = [worker for worker in await self._read() if not worker.get("leaving")]
        serving = [
            worker for worker in self._workers if view.record.queue in _queues(worker) and not worker.get("leaving")
        ]
        rates = [(worker["concurrency"], worker.get("mean_seconds")) for worker in serving]
        known = [(slots, mean) for slots, mean in rates if mean is not None]
        if not known:
            return replace(view, is_served=bool(serving))
        a_second = sum(slots / max(0.001, mean) for slots, mean in known)
        return replace(view, wait_ms=int(1000 * view.ahead / a_second))


def _queues(worker: dict[str, Any]) -> list[str]:
    several: list[str] | None = worker.get("queues")
    return several if several is not None else [worker["queue"]]
