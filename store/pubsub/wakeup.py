"""The wake-up call of idle workers: a blocking pop on a connection of its own."""

import asyncio
from typing import Any

from taskmill.store.connection.client import connect, store_errors
from taskmill.store.formats.keys import Keys
from taskmill.store.settings import StoreSettings

__all__ = ["QueueWakeup"]


class QueueWakeup:
    """Returns from `wait` when a task is queued."""

    def __init__(self, settings: StoreSettings, keys: Keys, queues: str) -> None:
        """`queues`: names, separated by commas."""
        self._redis = connect(settings, blocking=True)
        self._keys = [keys.wake(queue) for queue in queues.split(",")]
        self._newcomer_keys = [keys.newcomer(queue) for queue in queues.split(",")]
        self._last_key = self._keys[0]
        self._reply_timeout = settings.command_timeout

    async def wait(self, seconds: float) -> bool:
        """Wait for a token; False when none came in time. One worker gets each token.

        Raises:
            StoreUnavailable: there is no connection, or Redis no longer answers.
        """
        token = await self._pop(self._keys, seconds)
        if token is None:
            return False
        self._last_key = token[0]
        # BLPOP serves the first key that has a token, so each key must come first in its turn.
        self._keys = [*self._keys[1:], self._keys[0]]
        return True

    async def wait_for_newcomer(self, seconds: float) -> bool:
        """The same for a worker that has only reserved slots free: until a task comes that may have one.

        Raises:
            StoreUnavailable: there is no connection, or Redis no longer answers.
        """
        return await self._pop(self._newcomer_keys, seconds) is not None

    async def _pop(self, keys: list[str], seconds: float) -> list[Any] | None:
        with store_errors():
            pop: Any = self._redis.blpop  # typed for whole seconds; Redis 6 takes fractions
            # The connection has no timeout of its own: without this, a vanished Redis would be waited for endlessly.
            async with asyncio.timeout(seconds + self._reply_timeout):
                token: list[Any] | None = await pop(keys, timeout=seconds)
        return token

    async def pass_on(self) -> None:
        """Give the last token back for another worker to take.

        Raises:
            StoreUnavailable: there is no connection.
        """
        with store_errors():
            async with self._redis.pipeline() as pipe:
                pipe.lpush(self._last_key, 1)
                pipe.pexpire(self._last_key, 60_000)
                await pipe.execute()

    async def close(self) -> None:
        """Close the connection; a waiting `wait` must be cancelled before."""
        await self._redis.aclose()
