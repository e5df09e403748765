"""What a worker publishes about itself under its health key. The lease thread writes it (`services/leases.py`)."""

import os
import socket
from collections.abc import Callable, Iterable
from time import time
from typing import Any

from taskmill.workers.attempts.active import ActiveTasks
from taskmill.workers.settings import WorkerSettings

__all__ = ["WorkerHealth"]

_WEIGHT_OF_LATEST = 0.1
"""How much the latest run counts in the mean duration of runs."""


class WorkerHealth:
    """Of one worker; changed by the event loop, read by the lease thread."""

    def __init__(
        self, worker: str, settings: WorkerSettings, active: ActiveTasks, tools: Callable[[], Iterable[str]]
    ) -> None:
        """`tools`: gives the names of the task tools that the worker can run."""
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

    def count_run(self, seconds: float) -> None:
        """Count a finished task that ran so long."""
        self.settled += 1
        mean = seconds if self._mean_seconds is None else self._mean_seconds
        self._mean_seconds = mean + _WEIGHT_OF_LATEST * (seconds - mean)

    def as_json(self) -> dict[str, Any]:
        """The value of the health key; any thread."""
        return {
            "worker": self._worker,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": int(self._since),
            "queue": self._settings.queue,
            "concurrency": self._settings.concurrency,
            "running": len(self._active.fences()),
            "settled": self.settled,
            "mean_seconds": None if self._mean_seconds is None else round(self._mean_seconds, 4),
            "tools": sorted(self._tools()),
            "leaving": self.is_leaving,
        }
