"""What background services of a worker share whose work is one task of the event loop: how it starts and stops."""

import asyncio
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import ClassVar

__all__ = ["BackgroundTask"]


class BackgroundTask(ABC):
    """A background service: start, stop."""

    name: ClassVar[str]
    """Of its task, as a debugger shows it."""
    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start it."""
        self._task = asyncio.create_task(self._run(), name=self.name)

    async def stop(self) -> None:
        """Cancel it, and return once it has ended; also before it was started."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    @abstractmethod
    async def _run(self) -> None:
        """The work, until it is cancelled."""
