"""Events of tasks as they happen, read once in a process for all who follow the same task.

A follower is a cursor: it takes what is new from a short shared memory, and what it missed from the history, so that
a slow one costs no memory and loses nothing. One that can take an event without waiting is handed it by a plain call:
to wake an asyncio task for each of ten thousand readers costs more than all the rest.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import cast

from taskmill.engine.events import FINISHING, Event, LogMessage
from taskmill.store.connection.retry import until_available
from taskmill.store.pubsub.task_feed import TaskFeed

__all__ = ["EventTails"]

_REMEMBERED = 64
_HANDED_AT_ONCE = 50
"""Followers of one task that are handed an event before the others in this process go on."""
_LOGGED = 1000
"""Log messages that a slow follower may be behind; older ones are lost to it."""

Read = Callable[[str, int], Awaitable[list[Event]]]
"""Events of a task with numbers above the second argument, oldest first; a page of them is enough."""
Take = Callable[[Event], Awaitable[object] | None]
"""Takes an event; None = it is taken, else what has to be awaited before the next one is."""
OpenLog = Callable[[str, bytes], list[LogMessage]]
"""The log messages in what a task with this id has published."""


class EventTails:
    """Every task that is followed in this process."""

    def __init__(self, feed: TaskFeed, read: Read, open_log: OpenLog, *, page: int) -> None:
        """`page`: how many events `read` returns at most; fewer are all there are."""
        self._feed = feed
        self._read = read
        self._page = page
        self._open_log = open_log
        self._tails: dict[str, _Tail] = {}

    @asynccontextmanager
    async def follow(self, task_id: str, *, after: int = 0) -> AsyncIterator[AsyncIterator[Event]]:
        """The events above number `after`, each once and in order, ending after the last event of the task.

        A task whose history has expired, or whose last event is not above `after`, gives nothing and ends. Outages of
        the store are waited out.
        """
        async with self._tail(task_id, after) as tail, aclosing(tail.events(after)) as events:
            yield events

    async def hand_to(self, take: Take, task_id: str, *, after: int = 0) -> None:
        """The same events, each given to `take` the moment it is there; returns after the last of them.

        What `take` raises is raised here, and so is a cancellation of this call in what `take` returned.
        """
        async with self._tail(task_id, after) as tail:
            await tail.hand_to(take, after)

    @asynccontextmanager
    async def follow_with_log(
        self, task_id: str, *, after: int = 0
    ) -> AsyncIterator[AsyncGenerator[Event | LogMessage, None]]:
        """The same, and between them what the task logs from now on, as far as the follower is not too slow for it."""
        async with self._tail(task_id, after) as tail, aclosing(tail.events_and_log(after)) as both:
            yield both

    @asynccontextmanager
    async def _tail(self, task_id: str, after: int) -> AsyncIterator["_Tail"]:
        tail = self._tails.get(task_id)
        if tail is None:
            tail = _Tail(task_id, after, self._feed, self._read, self._open_log, page=self._page)
            self._tails[task_id] = tail
        tail.users += 1
        try:
            yield tail
        finally:
            tail.users -= 1
            if not tail.users:
                if self._tails.get(task_id) is tail:
                    del self._tails[task_id]
                await tail.stop()


class _Receiver:
    """A follower that has got all events so far, and takes the next ones without waiting."""

    __slots__ = ("_take", "cursor", "left")

    def __init__(self, take: Take, cursor: int) -> None:
        self.cursor = cursor
        self._take = take
        self.left: asyncio.Future[Awaitable[object] | None] = asyncio.get_running_loop().create_future()
        """Set when it takes no more by itself: what it has to await, None = there is no more, or what `take` raised."""

    def hand(self, events: list[Event]) -> None:
        for event in events:
            if self.left.done():
                return
            if event.seq > self.cursor:
                self._hand(event)

    def _hand(self, event: Event) -> None:
        self.cursor = event.seq
        try:
            waiting = self._take(event)
        except Exception as exc:
            self.left.set_exception(exc)
            return
        if waiting is not None:
            self.left.set_result(waiting)

    def leave(self) -> None:
        if not self.left.done():
            self.left.set_result(None)


class _Tail:
    """One followed task."""

    def __init__(self, task_id: str, start: int, feed: TaskFeed, read: Read, open_log: OpenLog, *, page: int) -> None:
        self.users = 0
        self._id = task_id
        self._feed = feed
        self._read = read
        self._page = page
        self._open_log = open_log
        self._recent: deque[Event] = deque(maxlen=_REMEMBERED)
        self._log: deque[LogMessage] = deque(maxlen=_LOGGED)
        self._logged = 0
        """How many messages were logged; the last of them are in `_log`."""
        self._log_readers = 0
        # The event at the cursor is read as well: it may be the task's last one.
        self._last = max(0, start - 1)
        self._has_ended = False
        self._receivers: dict[_Receiver, None] = {}
        self._stopped = False
        self._changed = asyncio.Event()
        self._reading = asyncio.create_task(self._read_events(), name="taskmill.tail")
        self._reading.add_done_callback(lambda _: self._leave_followers())

    async def stop(self) -> None:
        # redis-py can swallow a cancel that comes while it probes a connection; the flag is seen then.
        self._stopped = True
        self._reading.cancel()
        await asyncio.wait([self._reading])

    async def hand_to(self, take: Take, cursor: int) -> None:
        while True:
            for event in await self._after(cursor):
                cursor = event.seq
                if (waiting := take(event)) is not None:
                    await waiting
            if cursor < self._last:
                continue
            if self._has_ended:
                return
            if self._reading.done():
                self._reading.result()
            cursor = await self._receive(take, cursor)

    async def _receive(self, take: Take, cursor: int) -> int:
        """Be handed what comes, until one event has to be waited for or there is no more; the number of the last."""
        receiver = _Receiver(take, cursor)
        self._receivers[receiver] = None
        try:
            waiting = await receiver.left
        finally:
            del self._receivers[receiver]
        if waiting is not None:
            await waiting
        return receiver.cursor

    def events(self, cursor: int) -> AsyncGenerator[Event, None]:
        return cast("AsyncGenerator[Event, None]", self._items(cursor, with_log=False))

    async def events_and_log(self, cursor: int) -> AsyncGenerator[Event | LogMessage, None]:
        self._log_readers += 1
        try:
            async with aclosing(self._items(cursor, with_log=True)) as items:
                async for item in items:
                    yield item
        finally:
            self._log_readers -= 1

    async def _items(self, cursor: int, *, with_log: bool) -> AsyncGenerator[Event | LogMessage, None]:
        logged = self._logged
        while True:
            changed = self._changed
            fresh = await self._after(cursor)
            if with_log and self._logged > logged:
                # Before the events: what a tool logs before its end comes before its end.
                missed, logged = self._logged - logged, self._logged
                for message in list(self._log)[-missed:]:
                    yield message
            for event in fresh:
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
        async with self._feed.follow(self._id, on_log=self._receive_log) as subscription:
            while not (self._has_ended or self._stopped):
                await subscription.updates()
                has_more = True
                while has_more and not (self._has_ended or self._stopped):
                    fresh = await self._read_after(self._last)
                    has_more = len(fresh) >= self._page  # what comes after this read is an update of its own
                    if fresh:
                        self._append(fresh)
                        await self._hand_out(fresh)
                # Nothing at all was found: the history has expired, or the cursor is beyond its end.
                self._has_ended = self._has_ended or not self._recent
                self._wake_followers()

    async def _hand_out(self, events: list[Event]) -> None:
        receivers = list(self._receivers)
        for first in range(0, len(receivers), _HANDED_AT_ONCE):
            for receiver in receivers[first : first + _HANDED_AT_ONCE]:
                receiver.hand(events)
            await asyncio.sleep(0)

    def _receive_log(self, task_id: str, published: bytes) -> None:
        if self._log_readers:
            messages = self._open_log(task_id, published)
            self._log.extend(messages)
            self._logged += len(messages)
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

    def _leave_followers(self) -> None:
        """There is nothing more: those who wait go on, and see why."""
        self._wake_followers()
        for receiver in self._receivers:
            receiver.leave()
