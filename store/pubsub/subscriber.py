"""One subscription connection that reconnects by itself; task feeds and the workers' signals receive through it."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from random import uniform
from typing import Any

from hiredis import pack_command
from redis.exceptions import RedisError

from taskmill.store.connection.client import TRANSIENT_ERRORS, connect
from taskmill.store.connection.redis_private import abandon, write_now
from taskmill.store.connection.reply_reader import ReplyReader
from taskmill.store.connection.retry import retrying
from taskmill.store.settings import StoreSettings

__all__ = ["OnMessage", "Subscriber"]

_SILENCE = 10.0
"""Seconds without a message after which the connection is probed."""
_RETRIED = (*TRANSIENT_ERRORS, RedisError)
"""Also a refusal, such as of a user who may not subscribe: a subscriber that gave up would leave all waiting."""

OnMessage = Callable[[str, bytes | None], None]
"""Takes (channel, message); None = the subscription has just begun, also after an outage.

What was published before was not received, so the listener should read the current state itself.
"""


class Subscriber:
    """Subscribes to channels and calls `on_message` for each message."""

    def __init__(self, settings: StoreSettings, channels: Callable[[], Iterable[str]], on_message: OnMessage) -> None:
        self._settings = settings
        self._channels = channels
        """All channels that should be subscribed right now; at least one."""
        self._on_message = on_message
        self._connection: Any = None
        """redis-py's, while it is open; it is only written to, because its own commands would open it again."""
        self._lost: asyncio.Future[Exception]
        """Why the connection is of no use any more."""
        self._has_received = self._is_alive = False
        """Whether anything came since the connection was opened, and since the last check."""
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Start receiving; a second call changes nothing."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="taskmill.subscriber")

    async def close(self) -> None:
        """Stop receiving."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def subscribe(self, channels: Iterable[str]) -> None:
        """Add channels. While there is no connection this does nothing: connecting subscribes to all."""
        self._send("SUBSCRIBE", *channels)

    def unsubscribe(self, channels: Iterable[str]) -> None:
        """Drop channels."""
        self._send("UNSUBSCRIBE", *channels)

    def _send(self, verb: str, *channels: str) -> None:
        if self._connection is None or not (channels or verb == "PING"):
            return
        if getattr(self._connection, "is_outdated", False):
            _set_lost(self._lost, ConnectionError("another Redis became the primary"))
            return
        with suppress(OSError, RuntimeError):  # it broke just now, and the reader reports that
            # An id that a caller made up may hold half a character: no channel has such a name.
            command: tuple[Any, ...] = (verb, *(channel.encode(errors="replace") for channel in channels))
            write_now(self._connection, pack_command(command))

    async def _run(self) -> None:
        while True:
            await retrying(self._receive, on=_RETRIED, longest_pause=2.0)
            # A restart of Redis cuts the connections of every process at once.
            await asyncio.sleep(uniform(0, 0.1))

    async def _receive(self) -> None:
        """Return once the connection is lost; raise if it could not be opened at all."""
        client = connect(self._settings, blocking=True, retries=0)
        self._lost = lost = asyncio.get_running_loop().create_future()
        self._has_received = self._is_alive = False
        try:
            async with asyncio.timeout(self._settings.command_timeout):
                pool: Any = client.connection_pool
                connection = pool.make_connection()
                await connection.connect()
            reader = ReplyReader(connection, partial(self._on_reply, lost), partial(_set_lost, lost))
            # Nothing is awaited between these two, so no other task comes in between: the channels are complete, and
            # a listener that comes later finds the connection and subscribes for itself.
            self._connection = connection
            self.subscribe(self._channels())
            try:
                await self._watch_silence(lost)
            finally:
                self._connection = None
                reader.abort()
                abandon(connection)
                await reader.is_closed.wait()
        except _RETRIED:
            if not self._has_received:
                raise
        finally:
            await client.aclose()

    async def _watch_silence(self, lost: "asyncio.Future[Exception]") -> None:
        """Raise once the connection is lost, or was silent for too long."""
        is_probed = False
        while not lost.done():
            self._is_alive = False
            await asyncio.wait([lost], timeout=_SILENCE)
            if self._is_alive or lost.done():
                is_probed = False
            elif is_probed:
                raise ConnectionError("Redis did not answer a ping")
            else:
                is_probed = True
                self._send("PING")
        raise lost.result()

    def _on_reply(self, lost: "asyncio.Future[Exception]", reply: Any) -> None:
        self._is_alive = True
        if isinstance(reply, RedisError):
            _set_lost(lost, reply)
            return
        self._has_received = True
        if reply[0] == b"message":
            self._on_message(reply[1].decode(), reply[2])
        elif reply[0] == b"subscribe":
            self._on_message(reply[1].decode(), None)


def _set_lost(lost: "asyncio.Future[Exception]", reason: Exception) -> None:
    if not lost.done():
        lost.set_result(reason)
