"""One subscription connection that comes back by itself; the feed and the workers' signals listen through it."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential_jitter

from windlass.store.connection import connect, passing
from windlass.store.settings import StoreSettings

__all__ = ["Line"]

_SILENCE = 10.0
"""Seconds without a message after which the connection is probed."""

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
        if self._task is None:
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
                retry=retry_if_exception_type(passing), wait=wait_exponential_jitter(multiplier=0.05, max=2.0)
            )
            async for attempt in retrying:
                with attempt:
                    await self._listen()

    async def _listen(self) -> None:
        client = connect(self._settings, blocking=True)
        try:
            async with client.pubsub() as pubsub:
                await pubsub.subscribe(*self._channels())
                self._pubsub = pubsub
                silent = False
                while True:
                    message = await pubsub.get_message(timeout=_SILENCE)
                    if message is not None:
                        silent = False
                        self._pass_on(message)
                    elif silent:
                        raise ConnectionError("Redis did not answer a ping")
                    else:
                        silent = True
                        await pubsub.ping()
        finally:
            self._pubsub = None
            await client.aclose()

    def _pass_on(self, message: dict[str, Any]) -> None:
        if message["type"] == "message":
            self._hear(message["channel"].decode(), message["data"])
        elif message["type"] == "subscribe":
            self._hear(message["channel"].decode(), None)
