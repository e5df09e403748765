"""The active tasks of this process. The event loop and the lease thread both read the table, so it has a lock.

What is done with the tasks is elsewhere; this is only the table.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from enum import StrEnum
from time import monotonic, time
from typing import Any

from taskmill.engine.context import TaskContext

__all__ = ["ActiveTask", "ActiveTasks", "Stop"]

_CHECKS = 30
"""How often in the time of a lease a task that waits for a renewal checks whether there was one."""


class Stop(StrEnum):
    """Why an attempt must stop."""

    LOST = "lost"
    """The task was cancelled, or another worker has it: what this attempt writes is refused."""
    DRAIN = "drain"
    """This worker is leaving: the task goes back to its queue."""
    PARK = "park"
    """It only waits for answers: the task leaves memory until they are there."""
    TIMEOUT = "timeout"
    """It has run as long as its policy allows."""
    DEADLINE = "deadline"
    """The task must have ended by now."""


class ActiveTask:
    """One running attempt."""

    def __init__(self, task_id: str, fence: int, tool: str = "", *, lease: float) -> None:
        """`tool`: its name; `lease`: seconds. Made right after the claim, from which the lease counts."""
        self.id = task_id
        self.fence = fence
        self.tool = tool
        self.since_ms = int(time() * 1000)
        """When it was claimed, milliseconds since 1970."""
        self.context: TaskContext | None = None
        self.main_task: asyncio.Task[Any] | None = None
        """The asyncio task in which the tool runs; the tool may start others."""
        self.interrupt: Callable[[Stop], None] | None = None
        """Ends the tool; None before the tool has started and after it has ended."""
        self.stopped: asyncio.Future[Stop] = asyncio.get_running_loop().create_future()
        self.wake_count = 0
        """How often the client may have answered something, or the attempt was stopped."""
        self._woken = asyncio.Event()
        self.renewed_at = monotonic()
        """The attempt is known to have had its lease at this monotonic time; written by the lease thread."""
        self._lease = lease

    def stop(self, why: Stop, *, is_last: bool = False) -> None:
        """Tell the attempt to stop; the first reason stays. Event loop only. `is_last`: the task itself has ended."""
        if self.context is not None:
            self.context.cancel(is_last=is_last or why in (Stop.TIMEOUT, Stop.DEADLINE))
        if not self.stopped.done():
            self.stopped.set_result(why)
            if self.interrupt is not None:
                self.interrupt(why)
        self.wake()

    def wake(self) -> None:
        """Make every waiting question check for its answer. Event loop only."""
        self.wake_count += 1
        self._woken.set()
        self._woken = asyncio.Event()

    async def woken_since(self, seen: int) -> None:
        """Return once `wake_count` is above `seen`: a wait that begins late misses nothing."""
        while self.wake_count == seen:
            await self._woken.wait()

    async def until_lease_is_sure(self) -> None:
        """Return once at least half of the lease is known to be left.

        After an outage or a pause the lease may have expired unnoticed, and another attempt may be starting: what must
        not happen twice is not begun before a renewal has shown whose the task is.

        Raises:
            CancelledError: the attempt is to stop.
        """
        while monotonic() - self.renewed_at > self._lease / 2:
            await asyncio.sleep(self._lease / _CHECKS)
            if self.stopped.done():
                raise asyncio.CancelledError  # it may be a thread that waits, and nothing else would end that


class ActiveTasks:
    """Every attempt of this process by task id."""

    def __init__(self, lease: float) -> None:
        """`lease`: seconds for which a claim or a renewal is valid."""
        self.lease = lease
        self._lock = threading.Lock()
        self._tasks: dict[str, ActiveTask] = {}

    def add(self, task: ActiveTask) -> None:
        """Add a new attempt. An older one of the same task, whose lease expired unnoticed, is stopped."""
        with self._lock:
            older, self._tasks[task.id] = self._tasks.get(task.id), task
        if older is not None:
            older.stop(Stop.LOST)

    def remove(self, task_id: str, fence: int) -> None:
        """Remove an attempt, unless a newer one of the same task has replaced it."""
        with self._lock:
            task = self._tasks.get(task_id)
            if task is not None and task.fence == fence:
                del self._tasks[task_id]

    def find(self, task_id: str) -> ActiveTask | None:
        """The attempt at a task, None if this process has none."""
        with self._lock:
            return self._tasks.get(task_id)

    def fences(self) -> list[tuple[str, int]]:
        """(id, fence) of every attempt; any thread."""
        with self._lock:
            return [(task.id, task.fence) for task in self._tasks.values()]

    def renewed(self, fences: Sequence[tuple[str, int]], at: float) -> None:
        """Record that the leases of these attempts were renewed by a call that began `at` this monotonic time."""
        with self._lock:
            for task_id, fence in fences:
                task = self._tasks.get(task_id)
                if task is not None and task.fence == fence:
                    task.renewed_at = at

    def all(self) -> list[ActiveTask]:
        """Every attempt."""
        with self._lock:
            return list(self._tasks.values())
