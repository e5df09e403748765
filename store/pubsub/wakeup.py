"""The wake-up call of idle workers: a blocking pop on a connection of its own."""

import asyncio
from collections.abc import Sequence
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
        is_woken: bool = (await self._wait(seconds))[0]
        return is_woken

    async def wait_and_run(self, seconds: float, command: Sequence[Any]) -> tuple[bool, Any]:
        """Wait for a token, with a command behind it that Redis runs the moment the wait ends, however it ends.

        Returns whether there was a token, and the command's reply, where a refusal is the exception. A wait that is
        cancelled closes the connection, and the command is not run unless the wait has ended already.

        Raises:
            StoreUnavailable: as `wait`; the command may have run, and may have run twice.
        """
        is_woken, reply = await self._wait(seconds, command)
        return is_woken, reply

    async def _wait(self, seconds: float, *commands: Sequence[Any]) -> list[Any]:
        token, *replies = await self._pop(self._keys, seconds, *commands)
        if token is not None:
            self._last_key = token[0]
            # BLPOP serves the first key that has a token, so each key must come first in its turn.
            self._keys = [*self._keys[1:], self._keys[0]]
        return [token is not None, *replies]

    async def wait_for_newcomer(self, seconds: float) -> bool:
        """The same for a worker that has only reserved slots free: until a task comes that may have one.

        Raises:
            StoreUnavailable: there is no connection, or Redis no longer answers.
        """
        (token,) = await self._pop(self._newcomer_keys, seconds)
        return token is not None

    async def _pop(self, keys: list[str], seconds: float, *commands: Sequence[Any]) -> list[Any]:
        """The token or None, and the replies to commands that stand behind the wait."""
        with store_errors():
            # The connection has no timeout of its own: without this, a vanished Redis would be waited for endlessly.
            async with (
                asyncio.timeout(seconds + self._reply_timeout),
                self._redis.pipeline(transaction=False) as pipe,
            ):
                # While it blocks a connection, Redis leaves what stands behind it unread.
                for command in (("BLPOP", *keys, seconds), *commands):
                    pipe.execute_command(*command)
                replies: list[Any] = await pipe.execute(raise_on_error=False)
            if isinstance(replies[0], Exception):
                raise replies[0]
        return replies

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
