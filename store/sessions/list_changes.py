"""Reports that the lists of a server that is not ours have changed: from the process that received one, to all that
serve clients. Nothing keeps them, as nothing keeps notifications to a client.
"""

import json
from collections.abc import Callable, Collection
from contextlib import AbstractAsyncContextManager

from redis.asyncio import Redis

from taskmill.store.connection.client import store_errors
from taskmill.store.formats.queue_names import shared_app
from taskmill.store.pubsub.hub import ChannelHub
from taskmill.store.settings import StoreSettings

__all__ = ["ListChanges"]


class ListChanges:
    """The reports of one server."""

    def __init__(self, redis: Redis, settings: StoreSettings, hub: ChannelHub | None = None) -> None:
        """`redis`: of the default shard. `hub`: None = this process only publishes."""
        self._redis = redis
        self._channel = settings.keys().lists(shared_app(settings.app or ""))
        self._hub = hub

    async def publish(self, kinds: Collection[str]) -> None:
        """Report that these lists have changed: `tools`, `resources`, `prompts`."""
        with store_errors():
            await self._redis.publish(self._channel, json.dumps(sorted(kinds)))

    def subscribe(self, on_change: Callable[[frozenset[str]], None]) -> AbstractAsyncContextManager[None]:
        """Have `on_change` called with the kinds of each report."""
        assert self._hub is not None, "a process that serves clients has one"

        def receive(_channel: str, message: bytes | None) -> None:
            if message is not None:
                on_change(frozenset(json.loads(message)))

        return self._hub.subscribe([self._channel], receive)
