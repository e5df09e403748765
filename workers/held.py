"""The tasks this process holds: read by the event loop and by the lease thread, so it has a lock.

What is done with them is elsewhere; this is only the table.
"""

import asyncio
import threading
from enum import StrEnum
from typing import Any

from windlass.engine.context import TaskContext

__all__ = ["Held", "HeldTask", "Stop"]


class Stop(StrEnum):
    """Why an attempt is told to stop."""

    LOST = "lost"
    """Cancelled, or another worker has it: nothing it says counts any more."""
    DRAIN = "drain"
    """This worker is leaving: the task is given back."""
    PARK = "park"
    """It only waits for answers: the task leaves memory until they are there."""
    TIMEOUT = "timeout"
    """It has run as long as its policy allows."""
    DEADLINE = "deadline"
    """The task must have ended by now."""


class HeldTask:
    """One attempt under way."""

    def __init__(self, task_id: str, fence: int, name: str = "") -> None:
        """`name`: of the tool."""
        self.id = task_id
        self.fence = fence
        self.name = name
        self.context: TaskContext | None = None
        self.tool: asyncio.Task[Any] | None = None
        """The tool's own asyncio task; what it starts beside it are others."""
        self.stopped: asyncio.Future[Stop] = asyncio.get_running_loop().create_future()
        self.answered = asyncio.Event()
        """Set whenever the client has answered something, or the attempt is to stop."""

    def stop(self, why: Stop) -> None:
        """Tell the attempt to stop; the first reason stays. Event loop only."""
        if self.context is not None:
            self.context.cancel()
        if not self.stopped.done():
            self.stopped.set_result(why)
        self.answered.set()


class Held:
    """Every attempt of this process by task id."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tasks: dict[str, HeldTask] = {}

    def add(self, task: HeldTask) -> None:
        """Note a new attempt. An older one of the same task, whose lease lapsed unseen, is stopped."""
        with self._lock:
            older, self._tasks[task.id] = self._tasks.get(task.id), task
        if older is not None:
            older.stop(Stop.LOST)

    def remove(self, task_id: str, fence: int) -> None:
        """Forget an attempt, unless a newer one of the same task has taken its place."""
        with self._lock:
            held = self._tasks.get(task_id)
            if held is not None and held.fence == fence:
                del self._tasks[task_id]

    def find(self, task_id: str) -> HeldTask | None:
        """The attempt at a task, None if this process has none."""
        with self._lock:
            return self._tasks.get(task_id)

    def fences(self) -> list[tuple[str, int]]:
        """(id, fence) of every attempt; any thread."""
        with self._lock:
            return [(task.id, task.fence) for task in self._tasks.values()]

    def all(self) -> list[HeldTask]:
        """Every attempt."""
        with self._lock:
            return list(self._tasks.values())
