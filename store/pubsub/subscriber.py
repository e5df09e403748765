"""One subscription connection that comes back by itself; the feed and the workers' signals listen through it."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from random import uniform
from typing import Any

from hiredis import pack_command
from redis.exceptions import RedisError
from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential_jitter

from taskmill.store.connection.client import connect, passing
from taskmill.store.connection.reply_reader import ReplyReader
from taskmill.store.settings import StoreSettings

__all__ = ["Subscriber"]

_SILENCE = 10.0
"""Seconds without a message after which the connection is probed."""
_CURABLE = (*passing, RedisError)
"""Also a refusal, such as of a user without the right to subscribe: a line that gave up would leave all waiting."""

Hear = Callable[[str, bytes | None], None]


class Subscriber:
    """Subscribes to channels and calls `hear(channel, message)` for each message.

    `message` is None when the subscription to the channel has just begun, also after an outage: whatever was said
    before was not heard, so the listener should look for itself.
    """

    def __init__(self, settings: StoreSettings, channels: Callable[[], Iterable[str]], hear: Hear) -> None:
        self._settings = settings
        self._channels = channels
        """All channels that should be subscribed right now; at least one."""
        self._hear = hear
        self._connection: Any = None
        """redis-py's, while it is open; it is only written to, because its own commands would open it anew."""
        self._cut: asyncio.Future[Exception]
        """Why the connection is of no use any more."""
        self._is_heard = self._is_alive = False
        """Whether anything came since the line was opened, and since the last look."""
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Start listening; a second call changes nothing."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._stay(), name="taskmill.line")

    async def close(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def subscribe(self, channels: Iterable[str]) -> None:
        """Add channels. While there is no connection this does nothing: connecting subscribes to all."""
        self._say("SUBSCRIBE", *channels)

    def unsubscribe(self, channels: Iterable[str]) -> None:
        """Drop channels."""
        self._say("UNSUBSCRIBE", *channels)

    def _say(self, verb: str, *channels: str) -> None:
        if self._connection is None or not (channels or verb == "PING"):
            return
        if getattr(self._connection, "is_outdated", False):
            _settle(self._cut, ConnectionError("another Redis became the primary"))
            return
        with suppress(OSError, RuntimeError):  # it broke just now, which is heard of; uvloop says so in its own way
            # An id that a caller made up may hold half a character: no channel is called so.
            words: tuple[Any, ...] = (verb, *(channel.encode(errors="replace") for channel in channels))
            self._connection._writer.write(pack_command(words))

    async def _stay(self) -> None:
        while True:
            retrying = AsyncRetrying(
                retry=retry_if_exception_type(_CURABLE), wait=wait_exponential_jitter(multiplier=0.05, max=2.0)
            )
            async for attempt in retrying:
                with attempt:
                    await self._listen()
            # A restart of Redis cuts every process's line at once.
            await asyncio.sleep(uniform(0, 0.1))

    async def _listen(self) -> None:
        """Return once the line is cut; raise if it could not be opened at all."""
        client = connect(self._settings, blocking=True, retries=0)
        self._cut = cut = asyncio.get_running_loop().create_future()
        self._is_heard = self._is_alive = False
        try:
            async with asyncio.timeout(self._settings.command_timeout):
                pool: Any = client.connection_pool
                connection = pool.make_connection()
                await connection.connect()
            intake = ReplyReader(connection, partial(self._take, cut), partial(_settle, cut))
            # Nothing is awaited between these two, so nobody comes in between: the channels are complete, and whoever
            # comes later finds the line and subscribes for himself.
            self._connection = connection
            self.subscribe(self._channels())
            try:
                await self._watch(cut)
            finally:
                self._connection = None
                intake.abort()
                connection._close()  # no public way to do it without waiting
                await intake.is_closed.wait()
        except _CURABLE:
            if not self._is_heard:
                raise
        finally:
            await client.aclose()

    async def _watch(self, cut: "asyncio.Future[Exception]") -> None:
        """Raise once the line is cut, or was silent for too long."""
        is_probed = False
        while not cut.done():
            self._is_alive = False
            await asyncio.wait([cut], timeout=_SILENCE)
            if self._is_alive or cut.done():
                is_probed = False
            elif is_probed:
                raise ConnectionError("Redis did not answer a ping")
            else:
                is_probed = True
                self._say("PING")
        raise cut.result()

    def _take(self, cut: "asyncio.Future[Exception]", reply: Any) -> None:
        self._is_alive = True
        if isinstance(reply, RedisError):
            _settle(cut, reply)
            return
        self._is_heard = True
        if reply[0] == b"message":
            self._hear(reply[1].decode(), reply[2])
        elif reply[0] == b"subscribe":
            self._hear(reply[1].decode(), None)


def _settle(cut: "asyncio.Future[Exception]", why: Exception) -> None:
    if not cut.done():
        cut.set_result(why)
