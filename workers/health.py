"""What a worker publishes about itself under its health key. The lease thread writes it (`services/leases.py`)."""

import os
import resource
import socket
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from time import time
from typing import Any

from taskmill.workers.attempts.active import ActiveTask, ActiveTasks
from taskmill.workers.settings import WorkerSettings

__all__ = ["WorkerHealth", "is_killed"]

_VERSION = version("taskmill")
_TASKS_SHOWN = 100
"""Active tasks that a worker names."""
_WEIGHT_OF_LATEST = 0.1
"""How much the latest run counts in the mean duration of runs."""


class WorkerHealth:
    """Of one worker; changed by the event loop, read by the lease thread."""

    def __init__(
        self, worker: str, settings: WorkerSettings, active: ActiveTasks, tools: Callable[[], Iterable[str]]
    ) -> None:
        """`tools`: gives the names of the task tools that the worker can run."""
        self.queues = tuple(settings.qualified(queue) for queue in settings.queues)
        """What it serves, as Redis has it."""
        self._worker = worker
        self._settings = settings
        self._active = active
        self._tools = tools
        self._since = time()
        self._mean_seconds: float | None = None
        self.settled = 0
        """Tasks finished so far."""
        self.is_leaving = False
        """The worker claims nothing more."""
        self.is_drained = False
        """The worker claims nothing until an operator lets it."""
        self.slots = settings.concurrency
        """Tasks that it runs at the same time now."""
        self.scheduled: Callable[[], list[str]] = list
        """Gives the names of the tools whose schedules it minds."""
        self.obeys = True
        """Whether it does what operators want of it; a stock arq worker does not."""

    def count_run(self, seconds: float) -> None:
        """Count a finished task that ran so long."""
        self.settled += 1
        mean = seconds if self._mean_seconds is None else self._mean_seconds
        self._mean_seconds = mean + _WEIGHT_OF_LATEST * (seconds - mean)

    def as_json(self) -> dict[str, Any]:
        """The value of the health key; any thread."""
        running = len(self._active.fences())
        return {
            "worker": self._worker,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": int(self._since),
            "queue": self._settings.queue,
            "queues": list(self.queues),
            "app": self._settings.app or "",
            "concurrency": self.slots,
            "configured": self._settings.concurrency,
            "running": running,
            "settled": self.settled,
            "mean_seconds": None if self._mean_seconds is None else round(self._mean_seconds, 4),
            "tools": sorted(self._tools()),
            "scheduled": self.scheduled(),
            "leaving": self.is_leaving or self.is_drained,
            "state": self._state(running),
            "obeys": self.obeys,
            "version": _VERSION,
            "memory": _memory(),
            "tasks": [_task_json(task) for task in self._active.all()[:_TASKS_SHOWN]],
        }

    def _state(self, running: int) -> str:
        if self.is_leaving:
            return "leaving"
        if self.is_drained:
            return "draining" if running else "drained"
        return "working"


def _task_json(task: ActiveTask) -> dict[str, Any]:
    return {"id": task.id, "tool": task.tool, "since_ms": task.since_ms}


def _memory() -> int:
    """Bytes of memory that this process uses; where the system does not say, the most that it has used."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def is_killed(worker: Mapping[str, Any]) -> bool:
    """Whether a worker of this machine was killed: its last report stays in the store for a lease."""
    if worker.get("host") != socket.gethostname():
        return False
    try:
        os.kill(int(worker["pid"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it lives: the process of another user
    return False
