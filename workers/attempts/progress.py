"""The latest progress of every running task, written to the store at most twenty times a second a task.

The first report of a task goes out at once, later ones are coalesced (the last wins), and the very last one leaves
together with the task's end: `take` hands it over.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic

from taskmill.engine.errors import OperatorError
from taskmill.engine.record import Progress

__all__ = ["ProgressWriter", "Report"]

Report = tuple[str, int, Progress]
"""Task id, fence, what was said."""
_INTERVAL = 0.05


class ProgressWriter:
    """A background service: start, stop. `post` may be called from any thread and never waits."""

    def __init__(self, write: Callable[[Sequence[Report]], Awaitable[None]]) -> None:
        self._write = write
        self._lock = threading.Lock()
        self._fresh: dict[tuple[str, int], Progress] = {}
        self._leaving: dict[tuple[str, int], Progress] = {}
        self._written: dict[tuple[str, int], float] = {}
        self._stirred = asyncio.Event()
        self._ringing = False
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start writing."""
        self._task = asyncio.create_task(self._run(), name="taskmill.progress")

    async def stop(self) -> None:
        """Stop writing; what is left was handed over by `take`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def post(self, task_id: str, fence: int, progress: Progress) -> None:
        """Note what a task said; the last word before a write counts."""
        with self._lock:
            self._fresh[task_id, fence] = progress
            if self._ringing:
                return
            self._ringing = True
        if threading.get_ident() == self._loop_thread:
            self._stirred.set()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stirred.set)

    def take(self, task_id: str, fence: int) -> Progress | None:
        """Hand over what a task said last, if that is not surely written, and forget the task."""
        key = (task_id, fence)
        with self._lock:
            self._written.pop(key, None)
            return self._fresh.pop(key, None) or self._leaving.get(key)

    async def _run(self) -> None:
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            due, pause = self._due(monotonic())
            if due:
                self._leaving = due
                try:
                    await self._write([(task_id, fence, said) for (task_id, fence), said in due.items()])
                except OperatorError:
                    self._put_back(due)
                    pause = 1.0
                self._leaving = {}
            if pause is not None:
                self._loop.call_later(pause, self._stirred.set)

    def _due(self, now: float) -> tuple[dict[tuple[str, int], Progress], float | None]:
        """What may be written now, and seconds until the next look (None = nothing is left)."""
        with self._lock:
            due = {key: said for key, said in self._fresh.items() if now - self._written.get(key, 0.0) >= _INTERVAL}
            for key in due:
                del self._fresh[key]
                self._written[key] = now
            self._ringing = bool(self._fresh)
            if not self._fresh:
                return due, None
            return due, max(0.001, min(self._written[key] for key in self._fresh) + _INTERVAL - now)

    def _put_back(self, unwritten: dict[tuple[str, int], Progress]) -> None:
        with self._lock:
            self._fresh = {**unwritten, **self._fresh}
            self._ringing = True
