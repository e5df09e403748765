"""One subscription connection that comes back by itself; the feed and the workers' signals listen through it."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from random import uniform
from typing import Any

from redis.exceptions import RedisError
from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential_jitter

from windlass.store.connection import connect, passing
from windlass.store.settings import StoreSettings

__all__ = ["Line"]

_SILENCE = 10.0
"""Seconds without a message after which the connection is probed."""
_CURABLE = (*passing, RedisError)
"""Also a refusal, such as of a user without the right to subscribe: a line that gave up would leave all waiting."""

Hear = Callable[[str, bytes | None], None]


class Line:
    """Subscribes to channels and calls `hear(channel, message)` for each message.

    `message` is None when the subscription to the channel has just begun, also after an outage: whatever was said
    before was not heard, so the listener should look for itself.
    """

    def __init__(self, settings: StoreSettings, channels: Callable[[], Iterable[str]], hear: Hear) -> None:
        self._settings = settings
        self._channels = channels
        """All channels that should be subscribed right now; at least one."""
        self._hear = hear
        self._pubsub: Any = None
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Start listening; a second call changes nothing."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._stay(), name="windlass.line")

    async def close(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def subscribe(self, channels: Iterable[str]) -> None:
        """Add channels. While there is no connection this does nothing: connecting subscribes to all."""
        await self._tell("subscribe", channels)

    async def unsubscribe(self, channels: Iterable[str]) -> None:
        """Drop channels."""
        await self._tell("unsubscribe", channels)

    async def _tell(self, verb: str, channels: Iterable[str]) -> None:
        names = list(channels)
        if self._pubsub is not None and names:
            with suppress(*passing):  # the listener notices the broken connection itself
                await getattr(self._pubsub, verb)(*names)

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
        # redis-py must not reconnect by itself: it would do so for the reader and for a `subscribe` at the same time,
        # and both would then read from one socket.
        client = connect(self._settings, blocking=True, retries=0)
        try:
            async with client.pubsub() as pubsub:
                async with asyncio.timeout(self._settings.command_timeout):
                    await pubsub.connect()
                    # Nothing is awaited between these two until the command is sent, so nobody comes in between:
                    # the channels are complete, and whoever comes later finds the line and subscribes for himself.
                    self._pubsub = pubsub
                    await pubsub.subscribe(*self._channels())
                await self._hear_until_cut(pubsub)
        finally:
            self._pubsub = None
            await client.aclose()

    async def _hear_until_cut(self, pubsub: Any) -> None:
        silent, heard = False, False
        while True:
            try:
                message = await pubsub.get_message(timeout=_SILENCE)
                if message is not None:
                    silent, heard = False, True
                    self._pass_on(message)
                elif silent:
                    raise ConnectionError("Redis did not answer a ping")
                else:
                    silent = True
                    await pubsub.ping()
            except _CURABLE:
                if heard:
                    return
                raise

    def _pass_on(self, message: dict[str, Any]) -> None:
        if message["type"] == "message":
            self._hear(message["channel"].decode(), message["data"])
        elif message["type"] == "subscribe":
            self._hear(message["channel"].decode(), None)
