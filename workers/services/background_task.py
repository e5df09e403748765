"""What background services of a worker share whose work is one task of the event loop: how it starts, goes on after
an error, and stops.
"""

import asyncio
from abc import ABC, abstractmethod
from contextlib import suppress
from time import monotonic
from typing import ClassVar

import structlog

from taskmill.engine.errors import OperatorError

__all__ = ["BackgroundTask"]

log = structlog.get_logger()
_SHORTEST_REST, _LONGEST_REST = 1.0, 30.0
"""Seconds until a service that broke starts again: doubled each time, until it has worked for the longer one."""


class BackgroundTask(ABC):
    """A background service: start, stop."""

    name: ClassVar[str]
    """Of its task, as a debugger shows it."""
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start it."""
        self._task = asyncio.create_task(self._keep_running(), name=self.name)

    async def stop(self) -> None:
        """Cancel it, and return once it has ended; also before it was started."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _keep_running(self) -> None:
        """Start it again after an error: a worker without it would look healthy, and no one would make up for it."""
        rest = _SHORTEST_REST
        while True:
            since = monotonic()
            try:
                await self._run()
                return
            except OperatorError as exc:
                log.error("service.failed", service=self.name, why=str(exc), again_in=rest)
            except Exception as exc:
                log.error("service.failed", service=self.name, exc_info=exc, again_in=rest)
            if monotonic() - since > _LONGEST_REST:
                rest = _SHORTEST_REST
            await asyncio.sleep(rest)
            rest = min(2 * rest, _LONGEST_REST)

    @abstractmethod
    async def _run(self) -> None:
        """The work, until it is cancelled."""
