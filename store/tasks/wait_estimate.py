"""How long a queued task will wait, from what the live workers report of themselves."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from time import monotonic
from typing import Any

from taskmill.engine.record import TaskView
from taskmill.store.tasks.stats import queues_of

__all__ = ["WaitEstimate"]

_FRESH = 5.0
"""Seconds for which the workers' reports are used; many readers share one reading."""
_FRESH_WITHOUT_WORKER = 0.25
"""The same for a queue that none of them serves: a worker may have started since."""

_MOST_NOTED = 1000

ReadWorkers = Callable[[], Awaitable[list[dict[str, Any]]]]


class WaitEstimate:
    """Estimates for one process."""

    def __init__(self, read_workers: ReadWorkers) -> None:
        self._read = read_workers
        self._workers: list[dict[str, Any]] = []
        self._read_at = float("-inf")
        self._from_own_queue: OrderedDict[str, None] = OrderedDict()

    def note_own_queue(self, task_id: str) -> None:
        """Note a task that was called by a task of its own queue. Only this process knows, of the latest thousand."""
        self._from_own_queue[task_id] = None
        if len(self._from_own_queue) > _MOST_NOTED:
            self._from_own_queue.popitem(last=False)

    async def apply_to(self, view: TaskView) -> TaskView:
        """The view; of a queued task with how long it will wait, or with the fact that no worker serves its queue."""
        ahead = view.ahead
        if ahead is None:
            return view
        serving = await self._serving(view.record.queue)
        if view.record.id in self._from_own_queue:
            in_all, running = (sum(worker[name] for worker in serving) for name in ("concurrency", "running"))
            # What they report of running tasks is a few seconds old; the caller itself runs.
            view = replace(view, waits_for_caller=bool(serving) and in_all <= max(1, running))
        rates = [(worker["concurrency"], worker.get("mean_seconds")) for worker in serving]
        known = [(slots, mean) for slots, mean in rates if mean is not None]
        if not known:
            return replace(view, is_served=bool(serving))
        a_second = sum(slots / max(0.001, mean) for slots, mean in known)
        return replace(view, wait_ms=int(1000 * ahead / a_second))

    async def _serving(self, queue: str) -> list[dict[str, Any]]:
        """The live workers that serve a queue."""
        for fresh in (_FRESH, _FRESH_WITHOUT_WORKER):
            if monotonic() >= self._read_at + fresh:
                self._read_at = monotonic()
                self._workers = [worker for worker in await self._read() if not worker.get("leaving")]
            if serving := [worker for worker in self._workers if queue in queues_of(worker)]:
                return serving
        return []
