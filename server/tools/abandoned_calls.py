"""Tasks of held calls whose client disconnected: within a grace the same call finds them, later they are cancelled."""

import asyncio
from contextlib import suppress

from taskmill.engine.errors import StoreUnavailable, TaskNotFound
from taskmill.store.tasks.tasks import TaskStore

__all__ = ["AbandonedCalls"]

_EXTRA_MS = 60_000
"""How much longer than the grace the store remembers a task: its call finds it even after a crash of the server."""


class AbandonedCalls:
    """The tasks that one server process still has to cancel, each after its grace."""

    def __init__(self, store: TaskStore, grace: float) -> None:
        self._store = store
        self._grace = grace
        self._cancelling: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """Cancel nothing more: the tasks run to their ends."""
        for task in self._cancelling:
            task.cancel()

    async def cancel_task(self, task_id: str, principal: str, reason: str) -> None:
        """Cancel a task that no one waits for; where that fails, it runs to its end."""
        with suppress(StoreUnavailable, TaskNotFound):
            await self._store.cancel(task_id, principal, reason=reason)

    async def abandon(self, task_id: str, principal: str, digest: str, *, cancels: bool) -> None:
        """Keep the task of a held call whose client disconnected: for the grace the same call finds it.

        `cancels`: cancel it after the grace.
        """
        with suppress(StoreUnavailable):
            await self._store.abandoned_calls.add(
                principal, digest, task_id, for_ms=int(self._grace * 1000) + _EXTRA_MS
            )
            if cancels:
                cancelling = asyncio.create_task(
                    self._cancel_later(task_id, principal, digest), name="taskmill.dropping"
                )
                self._cancelling.add(cancelling)
                cancelling.add_done_callback(self._cancelling.discard)

    async def _cancel_later(self, task_id: str, principal: str, digest: str) -> None:
        await asyncio.sleep(self._grace)
        with suppress(StoreUnavailable):
            if await self._store.abandoned_calls.take(principal, digest) == task_id:
                await self.cancel_task(task_id, principal, "client_gone")
