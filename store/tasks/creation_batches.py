"""Sends creations of concurrent callers together: those of two iterations of the event loop are one script call."""

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from taskmill.store.formats.keys import Keys
from taskmill.store.scripts import Scripts

__all__ = ["CreationBatches"]

_TASKS_PER_CALL = 32
"""Tasks of one script call: some two milliseconds of Redis's time."""
_BYTES_PER_CALL = 1024 * 1024
"""Bytes of their arguments, unless it is one task: a full Redis refuses a call's first write, and no later one."""


class _CreationBatch:
    """Creations that are sent together."""

    def __init__(self) -> None:
        self.args: list[Any] = []
        self.bytes = 0
        self.replies: list[asyncio.Future[Any]] = []
        """Those that their callers wait for."""
        self.sending: asyncio.Task[list[Any]]
        """Gives a reply for each of them."""

    def has_room(self, payload: bytes) -> bool:
        return len(self.replies) < _TASKS_PER_CALL and self.bytes + len(payload) <= _BYTES_PER_CALL

    def hand_out(self, sending: "asyncio.Task[list[Any]]") -> None:
        """Give each caller that still waits its reply, or why there is none."""
        error = None if sending.cancelled() else sending.exception()
        for at, reply in enumerate(self.replies):
            if reply.done():
                continue
            if sending.cancelled():
                reply.cancel()
            elif isinstance(found := error or sending.result()[at], BaseException):
                reply.set_exception(found)
            else:
                reply.set_result(found)


class CreationBatches:
    """Creations on one Redis. Each caller gets the reply to its own, or its error."""

    def __init__(self, redis: Redis, scripts: Scripts, keys: Keys) -> None:
        self._redis = redis
        self._scripts = scripts
        self._keys = keys
        self._batch: _CreationBatch | None = None
        """The one that others can still join."""

    async def create(self, task_id: str, payload: bytes, args: Sequence[Any]) -> Any:
        """The reply of the script `create` for a task with these arguments; `payload` is one of them.

        Whether a caller that is cancelled has created its task is not known.

        Raises:
            RedisError, OSError: Redis refused it, or did not answer.
        """
        batch = self._batch
        if batch is None or not batch.has_room(payload):
            batch = self._batch = _CreationBatch()
            # It begins once what is ready in this iteration of the event loop and in the next one has run: in between
            # the loop reads what other clients have sent while the server worked for this one.
            batch.sending = asyncio.create_task(self._send(task_id, batch), name="taskmill.create")
            batch.sending.add_done_callback(batch.hand_out)
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        batch.replies.append(reply)
        batch.bytes += len(payload)
        batch.args += args
        return await reply

    async def _send(self, first_id: str, batch: _CreationBatch) -> list[Any]:
        await asyncio.sleep(0)
        if self._batch is batch:
            self._batch = None
        replies: list[Any] = await self._scripts.run(self._redis, "create", [self._keys.record(first_id)], batch.args)
        return replies
