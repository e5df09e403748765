"""Notifies those who wait for a task of its events.

It reports only that something happened; the subscriber reads the task itself.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Self

from taskmill.store.formats.keys import Keys
from taskmill.store.formats.log_messages import is_log
from taskmill.store.pubsub.hub import ChannelHub

__all__ = ["Subscription", "TaskFeed"]


class Subscription:
    """One subscriber: which of its tasks have updates."""

    def __init__(self) -> None:
        self._updated: dict[str, None] = {}
        self._wake = asyncio.Event()

    def notify(self, task_id: str) -> None:
        """Note an update of one task; any number of them count once until they are read."""
        self._updated[task_id] = None
        self._wake.set()

    async def updates(self) -> list[str]:
        """Wait for updates; the ids of tasks that have some, each once."""
        await self._wake.wait()
        self._wake.clear()
        updated, self._updated = list(self._updated), {}
        return updated


class TaskFeed:
    """Hands events of tasks to those who follow them."""

    def __init__(self, keys: Keys, hub: ChannelHub) -> None:
        """The hub is closed with this feed."""
        self._keys = keys
        self._hub = hub

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._hub.close()

    @asynccontextmanager
    async def follow(
        self, *task_ids: str, on_log: Callable[[str, bytes], None] | None = None
    ) -> AsyncIterator[Subscription]:
        """A subscription to the events of some tasks. `on_log`: gets a task's id and what it published of its log.

        Each task counts as updated once right after the subscription has begun, so nothing is lost between a first
        reading and the first event.
        """
        subscription = Subscription()

        def on_message(channel: str, message: bytes | None) -> None:
            task_id = self._keys.task_of(channel)
            if message is None or not is_log(message):
                subscription.notify(task_id)
            elif on_log is not None:
                on_log(task_id, message)

        async with self._hub.subscribe(map(self._keys.record, task_ids), on_message):
            yield subscription
