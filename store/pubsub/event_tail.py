"""Events of tasks as they happen, read once in a process for all who follow the same task.

A follower is a cursor: it takes what is new from a short shared memory, and what it missed from the history, so that
a slow one costs no memory and loses nothing.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from taskmill.engine.events import FINISHING, Event
from taskmill.store.connection.retry import until_available
from taskmill.store.pubsub.task_feed import TaskFeed

__all__ = ["EventTails"]

_REMEMBERED = 64

Read = Callable[[str, int], Awaitable[list[Event]]]
"""Events of a task with numbers above the second argument, oldest first; the first part of them is enough."""


class EventTails:
    """Every task that is followed in this process."""

    def __init__(self, feed: TaskFeed, read: Read) -> None:
        self._feed = feed
        self._read = read
        self._tails: dict[str, _Tail] = {}

    @asynccontextmanager
    async def follow(self, task_id: str, *, after: int = 0) -> AsyncIterator[AsyncIterator[Event]]:
        """The events above number `after`, each once and in order, ending after the last event of the task.

        A task whose history has expired, or whose last event is not above `after`, gives nothing and ends. Outages of
        the store are waited out.
        """
        tail = self._tails.get(task_id)
        if tail is None:
            tail = self._tails[task_id] = _Tail(task_id, after, self._feed, self._read)
        tail.users += 1
        events = tail.events(after)
        try:
            yield events
        finally:
            await events.aclose()
            tail.users -= 1
            if not tail.users:
                if self._tails.get(task_id) is tail:
                    del self._tails[task_id]
                await tail.stop()


class _Tail:
    """One followed task."""

    def __init__(self, task_id: str, start: int, feed: TaskFeed, read: Read) -> None:
        self.users = 0
        self._id = task_id
        self._feed = feed
        self._read = read
        self._recent: deque[Event] = deque(maxlen=_REMEMBERED)
        # The event at the cursor is read as well: it may be the task's last one.
        self._last = max(0, start - 1)
        self._has_ended = False
        self._stopped = False
        self._changed = asyncio.Event()
        self._reading = asyncio.create_task(self._read_events(), name="taskmill.tail")
        self._reading.add_done_callback(lambda _: self._wake_followers())

    async def stop(self) -> None:
        # redis-py can swallow a cancel that comes while it probes a connection; the flag is seen then.
        self._stopped = True
        self._reading.cancel()
        await asyncio.wait([self._reading])

    async def events(self, cursor: int) -> AsyncGenerator[Event, None]:
        while True:
            changed = self._changed
            for event in await self._after(cursor):
                cursor = event.seq
                yield event
            if cursor >= self._last:
                if self._has_ended:
                    return
                if self._reading.done():
                    self._reading.result()
                await changed.wait()

    async def _after(self, cursor: int) -> list[Event]:
        if cursor >= self._last:
            return []
        if self._recent and self._recent[0].seq <= cursor + 1:
            return [event for event in self._recent if event.seq > cursor]
        return await self._read_after(cursor)

    async def _read_events(self) -> None:
        async with self._feed.follow(self._id) as subscription:
            while not (self._has_ended or self._stopped):
                await subscription.updates()
                fresh = await self._read_after(self._last)
                while fresh and not (self._has_ended or self._stopped):
                    self._append(fresh)
                    fresh = await self._read_after(self._last)
                # Nothing at all was found: the history has expired, or the cursor is beyond its end.
                self._has_ended = self._has_ended or not self._recent
                self._wake_followers()

    async def _read_after(self, cursor: int) -> list[Event]:
        return await until_available(lambda: self._read(self._id, cursor))

    def _append(self, events: list[Event]) -> None:
        self._recent.extend(events)
        self._last = events[-1].seq
        self._has_ended = events[-1].move in FINISHING
        self._wake_followers()

    def _wake_followers(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
