"""Who listens to which channel: one subscription connection a process, however many listen.

Only passes messages on; what they mean is the listeners' business (`feed.py`, `sessions.py`).
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from taskmill.store.pubsub.subscriber import Subscriber
from taskmill.store.settings import StoreSettings

__all__ = ["ChannelHub", "ChannelHubs", "Hear"]

Hear = Callable[[str, bytes | None], None]
"""Takes (channel, message); None = the subscription has just begun, also after an outage: look for yourself."""


class ChannelHub:
    """Subscribes to a channel while at least one listener is there."""

    def __init__(self, settings: StoreSettings, home: str) -> None:
        """`home`: a channel that keeps the connection subscribed to something; nobody speaks there."""
        self._home = home
        self._listeners: dict[str, dict[object, Hear]] = {}
        self._line = Subscriber(settings, self._channels, self._spread)

    async def close(self) -> None:
        """Stop listening."""
        await self._line.close()

    @asynccontextmanager
    async def listening(self, channels: Iterable[str], hear: Hear) -> AsyncIterator[None]:
        """Have `hear` called for every message on the channels.

        For each channel it is called once with None at the beginning: from then on nothing is missed.
        """
        wanted = list(dict.fromkeys(channels))
        me = object()
        fresh = [channel for channel in wanted if channel not in self._listeners]
        for channel in wanted:
            self._listeners.setdefault(channel, {})[me] = hear
            if channel not in fresh:
                hear(channel, None)
        try:
            self._line.open()
            self._line.subscribe(fresh)
            yield
        finally:
            self._line.unsubscribe([channel for channel in wanted if self._leave(channel, me)])

    def _leave(self, channel: str, listener: object) -> bool:
        others = self._listeners[channel]
        del others[listener]
        if not others:
            del self._listeners[channel]
        return not others

    def _channels(self) -> list[str]:
        return [self._home, *self._listeners]

    def _spread(self, channel: str, message: bytes | None) -> None:
        for hear in list(self._listeners.get(channel, {}).values()):
            hear(channel, message)


class ChannelHubs(ChannelHub):
    """The switchboards of several Redis servers: each channel is listened to on its own."""

    def __init__(self, boards: Mapping[str, ChannelHub], shard_of: Callable[[str], str]) -> None:
        """`shard_of`: the name of a channel's board."""
        self._boards = boards
        self._shard_of = shard_of

    async def close(self) -> None:
        """Stop listening."""
        for board in self._boards.values():
            await board.close()

    @asynccontextmanager
    async def listening(self, channels: Iterable[str], hear: Hear) -> AsyncIterator[None]:
        """See `ChannelHub.listening`."""
        apart: dict[str, list[str]] = {}
        for channel in channels:
            apart.setdefault(self._shard_of(channel), []).append(channel)
        async with AsyncExitStack() as stack:
            for shard, of_shard in apart.items():
                await stack.enter_async_context(self._boards[shard].listening(of_shard, hear))
            yield
