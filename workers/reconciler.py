"""Repairs the queue now and then: an open task that something else took out of it is put back."""

import asyncio
from contextlib import suppress
from datetime import timedelta

import structlog

from windlass.engine.errors import StoreUnavailable
from windlass.store.claims import ClaimStore

__all__ = ["Reconciler"]

log = structlog.get_logger()


class Reconciler:
    """A background service: start, stop. Of all the workers, one repairs at a time."""

    def __init__(self, store: ClaimStore, every: timedelta) -> None:
        self._store = store
        self._every = every
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start repairing."""
        self._task = asyncio.create_task(self._run(), name="windlass.reconciler")

    async def stop(self) -> None:
        """Stop repairing."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            with suppress(StoreUnavailable):
                mended = await self._store.reconcile(self._every)
                if mended:
                    log.warning("queue.repaired", mended=mended)
            await asyncio.sleep(self._every.total_seconds())
