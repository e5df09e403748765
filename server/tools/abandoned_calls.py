"""Tasks of held calls whose client has gone: found again by the same call within the grace, or dropped behind it."""

import asyncio
from contextlib import suppress

from taskmill.engine.errors import StoreUnavailable, TaskNotFound
from taskmill.store.tasks.tasks import TaskStore

__all__ = ["AbandonedCalls"]

_SPARE_MS = 60_000
"""For a server that dies within the grace: the call still finds its task."""


class AbandonedCalls:
    """What one server process still owes to tasks whose clients have gone."""

    def __init__(self, store: TaskStore, grace: float) -> None:
        self._store = store
        self._grace = grace
        self._dropping: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """Owe nothing more: the tasks run to their ends."""
        for task in self._dropping:
            task.cancel()

    async def drop(self, task_id: str, principal: str, reason: str) -> None:
        """Cancel a task nobody wants any more; where that cannot be done, it runs to its end."""
        with suppress(StoreUnavailable, TaskNotFound):
            await self._store.cancel(task_id, principal, reason=reason)

    async def leave(self, task_id: str, principal: str, digest: str, *, drops: bool) -> None:
        """The client of a held call has gone: for the grace the same call finds its task; then `drops` cancels it."""
        with suppress(StoreUnavailable):
            await self._store.abandoned_calls.add(
                principal, digest, task_id, for_ms=int(self._grace * 1000) + _SPARE_MS
            )
            if drops:
                dropping = asyncio.create_task(self._drop_later(task_id, principal, digest), name="taskmill.dropping")
                self._dropping.add(dropping)
                dropping.add_done_callback(self._dropping.discard)

    async def _drop_later(self, task_id: str, principal: str, digest: str) -> None:
        await asyncio.sleep(self._grace)
        with suppress(StoreUnavailable):
            if await self._store.abandoned_calls.take(principal, digest) == task_id:
                await self.drop(task_id, principal, "client_gone")
