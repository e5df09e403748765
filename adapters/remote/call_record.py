"""What our own task keeps of a call to a server behind Taskmill, so that an attempt knows what the one before it did.

It is in the state of the task: written before a call is sent, and read with the claim of the next attempt.
"""

import asyncio
from contextlib import suppress
from typing import Any

from taskmill.adapters.remote.upstream_tasks import UpstreamTask
from taskmill.engine.context import TaskContext
from taskmill.engine.errors import FenceLost

__all__ = ["AttemptRecord"]

_KEY = "taskmill_upstream"
_CALLED = "called"


class AttemptRecord:
    """The record of one attempt; of a call that is no task there is none, and nothing is written."""

    def __init__(self, attempt: TaskContext | None) -> None:
        self.attempt = attempt
        self._is_task_kept = self.task is not None

    @property
    def is_open(self) -> bool:
        """Whether a call has been sent, and its answer is not known."""
        return bool(self._kept == _CALLED)

    @property
    def task(self) -> UpstreamTask | None:
        """The task that the server made of the call."""
        kept = self._kept
        return UpstreamTask(**kept) if isinstance(kept, dict) else None

    @property
    def may_follow_later(self) -> bool:
        """Whether another attempt may come after this one, or has come already."""
        return self.attempt is not None and not self.attempt.is_last

    async def open(self) -> None:
        """A call is sent now."""
        await self._keep(_CALLED)

    async def created(self, task: UpstreamTask) -> None:
        """The server made a task of it."""
        await self._keep(task.as_json())
        self._is_task_kept = True

    async def is_kept(self, task: UpstreamTask) -> bool:
        """Whether the next attempt will find this task: tried once more, where the write was interrupted."""
        if not self._is_task_kept:
            with suppress(FenceLost, asyncio.CancelledError):
                await self.created(task)
        return self._is_task_kept

    async def close(self) -> None:
        """The server has answered, and another call will follow; or its task is gone."""
        await self._keep(None)

    @property
    def _kept(self) -> Any:
        return None if self.attempt is None else self.attempt.journal.state.get(_KEY)

    async def _keep(self, value: Any) -> None:
        if self.attempt is not None:
            self.attempt.journal.state[_KEY] = value
            await self.attempt.journal.save()
