"""The latest progress of every active task, written to the store at most twenty times a second for each task.

The first report of a task is written at once, later ones are coalesced (the last wins), and the very last one is sent
together with the task's end: `take_last` returns it.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic

from taskmill.engine.errors import OperatorError
from taskmill.engine.record import Progress

__all__ = ["ProgressWriter", "Report"]

Report = tuple[str, int, Progress]
"""Task id, fence, progress."""
_INTERVAL = 0.05


class ProgressWriter:
    """A background service: start, stop. `report` may be called from any thread and never waits."""

    def __init__(self, write: Callable[[Sequence[Report]], Awaitable[None]]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._pending: dict[tuple[str, int], Progress] = {}
        self._in_flight: dict[tuple[str, int], Progress] = {}
        self._written_at: dict[tuple[str, int], float] = {}
        self._wake = asyncio.Event()
        self._is_woken = False
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start writing."""
        self._task = asyncio.create_task(self._run(), name="taskmill.progress")

    async def stop(self) -> None:
        """Stop writing; `take_last` has returned what was not written."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def report(self, task_id: str, fence: int, progress: Progress) -> None:
        """Record the progress of a task; the last report before a write counts."""
        with self._lock:
            self._pending[task_id, fence] = progress
            if self._is_woken:
                return
            self._is_woken = True
        if threading.get_ident() == self._loop_thread:
            self._wake.set()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake.set)

    def take_last(self, task_id: str, fence: int) -> Progress | None:
        """The last progress of a task, unless it is surely written; the task is forgotten."""
        key = (task_id, fence)
        with self._lock:
            self._written_at.pop(key, None)
            return self._pending.pop(key, None) or self._in_flight.get(key)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            due, pause = self._due(monotonic())
            if due:
                self._in_flight = due
                try:
                    await self._write([(task_id, fence, progress) for (task_id, fence), progress in due.items()])
                except OperatorError:
                    self._put_back(due)
                    pause = 1.0
                self._in_flight = {}
            if pause is not None:
                self._loop.call_later(pause, self._wake.set)

    def _due(self, now: float) -> tuple[dict[tuple[str, int], Progress], float | None]:
        """What may be written now, and seconds until the next check (None = nothing is left)."""
        with self._lock:
            due = {
                key: last for key, last in self._pending.items() if now - self._written_at.get(key, 0.0) >= _INTERVAL
            }
            for key in due:
                del self._pending[key]
                self._written_at[key] = now
            self._is_woken = bool(self._pending)
            if not self._pending:
                return due, None
            return due, max(0.001, min(self._written_at[key] for key in self._pending) + _INTERVAL - now)

    def _put_back(self, unwritten: dict[tuple[str, int], Progress]) -> None:
        with self._lock:
            self._pending = {**unwritten, **self._pending}
            self._is_woken = True
