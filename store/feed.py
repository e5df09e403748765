"""Who waits for a task hears of its events: one subscription connection a process, however many wait.

Says only "something happened"; the listener reads the task itself.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from windlass.store.keys import Keys
from windlass.store.line import Line
from windlass.store.settings import StoreSettings

__all__ = ["Feed", "Subscription"]


class Subscription:
    """One listener: which of its tasks have news."""

    def __init__(self) -> None:
        self._news: dict[str, None] = {}
        self._wake = asyncio.Event()

    def tell(self, task_id: str) -> None:
        """Note news of one task; any number of them count once until they are read."""
        self._news[task_id] = None
        self._wake.set()

    async def news(self) -> list[str]:
        """Wait for news; the tasks that have some, each once."""
        await self._wake.wait()
        self._wake.clear()
        told, self._news = list(self._news), {}
        return told


class Feed:
    """Hands events of tasks to whoever follows them."""

    def __init__(self, settings: StoreSettings, keys: Keys) -> None:
        self._keys = keys
        self._followers: dict[str, set[Subscription]] = {}
        self._line = Line(settings, self._channels, self._spread)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._line.close()

    @asynccontextmanager
    async def follow(self, *task_ids: str) -> AsyncIterator[Subscription]:
        """A subscription to the events of some tasks.

        Each task counts as news once right after the subscription has begun, so nothing falls between a first look
        and the first event.
        """
        subscription = Subscription()
        fresh = [task_id for task_id in task_ids if task_id not in self._followers]
        for task_id in task_ids:
            self._followers.setdefault(task_id, set()).add(subscription)
            if task_id not in fresh:
                subscription.tell(task_id)
        try:
            self._line.open()
            await self._line.subscribe(map(self._keys.record, fresh))
            yield subscription
        finally:
            stale = [task_id for task_id in dict.fromkeys(task_ids) if self._leave(task_id, subscription)]
            await self._line.unsubscribe(map(self._keys.record, stale))

    def _leave(self, task_id: str, subscription: Subscription) -> bool:
        listeners = self._followers[task_id]
        listeners.discard(subscription)
        if not listeners:
            del self._followers[task_id]
        return not listeners

    def _channels(self) -> list[str]:
        return [self._keys.record(""), *map(self._keys.record, self._followers)]

    def _spread(self, channel: str, _message: bytes | None) -> None:
        task_id = self._keys.task_of(channel)
        for listener in self._followers.get(task_id, ()):
            listener.tell(task_id)
