"""The tasks this process holds: read by the event loop and by the lease thread, so it has a lock.

What is done with them is elsewhere; this is only the table.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from enum import StrEnum
from time import monotonic
from typing import Any

from taskmill.engine.context import TaskContext

__all__ = ["ActiveTask", "ActiveTasks", "Stop"]

_LOOKS = 30
"""How often in a lease a task looks whether it was renewed, where it has to wait for that."""


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


class ActiveTask:
    """One attempt under way."""

    def __init__(self, task_id: str, fence: int, name: str = "", *, lease: float) -> None:
        """`name`: of the tool; `lease`: seconds. Made right behind the claim, which the lease counts from."""
        self.id = task_id
        self.fence = fence
        self.name = name
        self.context: TaskContext | None = None
        self.tool: asyncio.Task[Any] | None = None
        """The asyncio task in which the tool runs; what it starts beside it are others."""
        self.interrupt: Callable[[Stop], None] | None = None
        """Ends the tool; there is none before it has started and after it has ended."""
        self.stopped: asyncio.Future[Stop] = asyncio.get_running_loop().create_future()
        self.stirs = 0
        """How often the client may have answered something, or the attempt was told to stop."""
        self._stirred = asyncio.Event()
        self.renewed_at = monotonic()
        """No later than when the lease was last seen to be this attempt's; written by the lease thread."""
        self._lease = lease

    def stop(self, why: Stop) -> None:
        """Tell the attempt to stop; the first reason stays. Event loop only."""
        if self.context is not None:
            self.context.cancel()
        if not self.stopped.done():
            self.stopped.set_result(why)
            if self.interrupt is not None:
                self.interrupt(why)
        self.stir()

    def stir(self) -> None:
        """Let every question that waits look for its answer. Event loop only."""
        self.stirs += 1
        self._stirred.set()
        self._stirred = asyncio.Event()

    async def stirred_since(self, seen: int) -> None:
        """Return once there were more stirs than `seen`: a wait that begins late has missed none."""
        while self.stirs == seen:
            await self._stirred.wait()

    async def until_sure(self) -> None:
        """Return once half of the lease, at least, is known to be left.

        Behind an outage or a pause the lease may have lapsed unseen, and another attempt may be on its way: what must
        not happen twice is not begun before a renewal has said whose the task is.

        Raises:
            CancelledError: the attempt is to stop.
        """
        while monotonic() - self.renewed_at > self._lease / 2:
            await asyncio.sleep(self._lease / _LOOKS)
            if self.stopped.done():
                raise asyncio.CancelledError  # it may be a thread that waits, and nothing else would end that


class ActiveTasks:
    """Every attempt of this process by task id."""

    def __init__(self, lease: float) -> None:
        """`lease`: seconds that a claim or a renewal is good for."""
        self.lease = lease
        self._lock = threading.Lock()
        self._tasks: dict[str, ActiveTask] = {}

    def add(self, task: ActiveTask) -> None:
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

    def find(self, task_id: str) -> ActiveTask | None:
        """The attempt at a task, None if this process has none."""
        with self._lock:
            return self._tasks.get(task_id)

    def fences(self) -> list[tuple[str, int]]:
        """(id, fence) of every attempt; any thread."""
        with self._lock:
            return [(task.id, task.fence) for task in self._tasks.values()]

    def renewed(self, fences: Sequence[tuple[str, int]], at: float) -> None:
        """Note that these attempts had their leases renewed by a call that was begun `at` this monotonic time."""
        with self._lock:
            for task_id, fence in fences:
                task = self._tasks.get(task_id)
                if task is not None and task.fence == fence:
                    task.renewed_at = at

    def all(self) -> list[ActiveTask]:
        """Every attempt."""
        with self._lock:
            return list(self._tasks.values())
