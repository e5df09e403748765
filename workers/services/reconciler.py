"""Repairs the queue from time to time: puts open tasks that are missing in it back. And deletes expired artifacts."""

import asyncio
from contextlib import suppress
from datetime import timedelta

import structlog

from taskmill.engine.errors import ArtifactsUnavailable, StoreUnavailable
from taskmill.store.artifacts.artifacts import ArtifactStore
from taskmill.store.claims.claims import ClaimStore
from taskmill.workers.services.background_task import BackgroundTask

__all__ = ["Reconciler"]

log = structlog.get_logger()


class Reconciler(BackgroundTask):
    """A background service: start, stop. Of all the workers, one repairs at a time."""

    name = "taskmill.reconciler"

    def __init__(self, store: ClaimStore, artifacts: ArtifactStore, every: timedelta) -> None:
        self._store = store
        self._artifacts = artifacts
        self._every = every

    async def _run(self) -> None:
        while True:
            with suppress(StoreUnavailable):
                repaired = await self._store.reconcile(self._every)
                if repaired:
                    log.warning("queue.repaired", mended=repaired)
                if repaired is not None:
                    await self._sweep()
            await asyncio.sleep(self._every.total_seconds())

    async def _sweep(self) -> None:
        """Delete expired artifacts outside Redis; a bounded number, the rest next time."""
        try:
            swept = await self._artifacts.sweep()
        except ArtifactsUnavailable as exc:
            log.warning("artifacts.not_swept", detail=str(exc))
            return
        if swept:
            log.info("artifacts.swept", swept=swept)
