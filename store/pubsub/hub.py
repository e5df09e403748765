"""Who listens to which channel: one subscription connection a process, for any number of listeners.

It only passes messages on; what they mean is the listeners' business (`task_feed.py`, `sessions/`).
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from taskmill.store.pubsub.subscriber import OnMessage, Subscriber
from taskmill.store.settings import StoreSettings

__all__ = ["ChannelHub", "ChannelHubs"]


class ChannelHub:
    """Subscribes to a channel while at least one listener is there."""

    def __init__(self, settings: StoreSettings, idle_channel: str) -> None:
        """`idle_channel`: keeps the connection subscribed to something; nothing is published there."""
        self._idle_channel = idle_channel
        self._listeners: dict[str, dict[object, OnMessage]] = {}
        self._subscriber = Subscriber(settings, self._channels, self._deliver)

    async def close(self) -> None:
        """Stop receiving."""
        await self._subscriber.close()

    @asynccontextmanager
    async def subscribe(self, channels: Iterable[str], on_message: OnMessage) -> AsyncIterator[None]:
        """Have `on_message` called for every message on the channels.

        For each channel it is called once with None at the beginning: from then on nothing is missed.
        """
        wanted = list(dict.fromkeys(channels))
        listener = object()
        fresh = [channel for channel in wanted if channel not in self._listeners]
        for channel in wanted:
            self._listeners.setdefault(channel, {})[listener] = on_message
            if channel not in fresh:
                on_message(channel, None)
        try:
            self._subscriber.open()
            self._subscriber.subscribe(fresh)
            yield
        finally:
            self._subscriber.unsubscribe([channel for channel in wanted if self._leave(channel, listener)])

    def _leave(self, channel: str, listener: object) -> bool:
        others = self._listeners[channel]
        del others[listener]
        if not others:
            del self._listeners[channel]
        return not others

    def _channels(self) -> list[str]:
        return [self._idle_channel, *self._listeners]

    def _deliver(self, channel: str, message: bytes | None) -> None:
        for on_message in list(self._listeners.get(channel, {}).values()):
            on_message(channel, message)


class ChannelHubs(ChannelHub):
    """The hubs of several Redis servers: each channel is subscribed to on its own server."""

    def __init__(self, hubs: Mapping[str, ChannelHub], shard_of: Callable[[str], str]) -> None:
        """`hubs`: by shard; `shard_of`: the shard of a channel."""
        self._hubs = hubs
        self._shard_of = shard_of

    async def close(self) -> None:
        """Stop receiving."""
        for hub in self._hubs.values():
            await hub.close()

    @asynccontextmanager
    async def subscribe(self, channels: Iterable[str], on_message: OnMessage) -> AsyncIterator[None]:
        """See `ChannelHub.subscribe`."""
        by_shard: dict[str, list[str]] = {}
        for channel in channels:
            by_shard.setdefault(self._shard_of(channel), []).append(channel)
        async with AsyncExitStack() as stack:
            for shard, of_shard in by_shard.items():
                await stack.enter_async_context(self._hubs[shard].subscribe(of_shard, on_message))
            yield
