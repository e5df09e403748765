"""While a file is developed: serves the queues of this file that have tasks and no worker of their own any more.

A `taskmill call` that was killed leaves such a queue, and a worker that was left behind and then killed. Never a queue
of another file, and never one whose own worker lives: that worker may have another version of the file.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import structlog

from taskmill.engine.errors import StoreUnavailable
from taskmill.store.claims.claims import ClaimStore
from taskmill.store.formats.queue_names import app_of, shared_app
from taskmill.workers.health import WorkerHealth, is_killed
from taskmill.workers.services.background_task import BackgroundTask
from taskmill.workers.settings import WorkerSettings

__all__ = ["AbandonedQueues"]

log = structlog.get_logger()
_CHECK_EVERY = 2.0
"""Seconds."""
_TASKS_READ = 100
"""Open tasks that one check reads, beside the work of the same worker; the next one goes on behind them."""


class AbandonedQueues(BackgroundTask):
    """A background service: start, stop. It changes which queues the worker claims from."""

    name = "taskmill.abandoned_queues"

    def __init__(
        self, store: ClaimStore, settings: WorkerSettings, health: WorkerHealth, on_more: Callable[[], None]
    ) -> None:
        """`on_more`: called when the worker claims from more queues than before."""
        self._store = store
        self._app = settings.app or ""
        self._own = health.queues
        self._health = health
        self._on_more = on_more
        self._next = 0
        """The rank of the open task that is read next."""
        self._queues: tuple[set[str], set[str]] = set(), set()
        """Those that open tasks had when all were read last, and those of the tasks that have been read since."""

    async def _run(self) -> None:
        while True:
            with suppress(StoreUnavailable):
                found = await self._find()
                new = sorted(set(found) - set(self._health.queues))
                self._health.queues = (*self._own, *found)
                if new:
                    log.info("queues.taken_over", queues=new)
                    self._on_more()
            await asyncio.sleep(_CHECK_EVERY)

    async def _find(self) -> list[str]:
        """The abandoned queues of this file."""
        # First the queues: a worker that registers in between is seen, so a queue whose worker starts is left to it.
        queues, is_more = await self._store.queues_of_open_tasks(self._next, _TASKS_READ)
        before, seen = self._queues
        seen |= queues
        self._next = self._next + _TASKS_READ if is_more else 0
        self._queues = (before, seen) if is_more else (seen, set())
        return _abandoned(before | seen, self._app, await self._store.workers())


def _abandoned(queues: Iterable[str], app: str, workers: Iterable[Mapping[str, Any]]) -> list[str]:
    """Of `queues` those of the same file as `app`, whose own workers are dead."""
    alive = {worker.get("app", "") for worker in workers if not is_killed(worker)}
    return sorted(
        queue
        for queue in set(queues)
        if shared_app(app_of(queue)) == shared_app(app) and app_of(queue) != app and app_of(queue) not in alive
    )
