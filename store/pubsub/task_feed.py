"""Who waits for a task hears of its events.

Says only "something happened"; the listener reads the task itself.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from taskmill.store.formats.keys import Keys
from taskmill.store.pubsub.hub import ChannelHub
from taskmill.store.settings import StoreSettings

__all__ = ["Subscription", "TaskFeed"]


class Subscription:
    """One listener: which of its tasks have news."""

    def __init__(self) -> None:
        self._news: dict[str, None] = {}
        self._wake = asyncio.Event()

    def notify(self, task_id: str) -> None:
        """Note news of one task; any number of them count once until they are read."""
        self._news[task_id] = None
        self._wake.set()

    async def updates(self) -> list[str]:
        """Wait for news; the tasks that have some, each once."""
        await self._wake.wait()
        self._wake.clear()
        told, self._news = list(self._news), {}
        return told


class TaskFeed:
    """Hands events of tasks to whoever follows them."""

    def __init__(self, settings: StoreSettings, keys: Keys, switchboard: ChannelHub | None = None) -> None:
        self._keys = keys
        self._switchboard = switchboard or ChannelHub(settings, keys.record(""))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._switchboard.close()

    @asynccontextmanager
    async def follow(self, *task_ids: str) -> AsyncIterator[Subscription]:
        """A subscription to the events of some tasks.

        Each task counts as news once right after the subscription has begun, so nothing falls between a first look
        and the first event.
        """
        subscription = Subscription()

        def hear(channel: str, _message: bytes | None) -> None:
            subscription.notify(self._keys.task_of(channel))

        async with self._switchboard.listening(map(self._keys.record, task_ids), hear):
            yield subscription
