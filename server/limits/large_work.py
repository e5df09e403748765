"""Work on large requests, which keeps the event loop for milliseconds a piece: others are served between the pieces.

A piece is what a request does without waiting: to read its JSON, to check its arguments, to write them for the store.
Another thread would not help: what reads and writes JSON holds Python's lock.
"""

import asyncio
from asyncio import sleep
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

from taskmill.engine.principal import ANONYMOUS

__all__ = ["LARGE", "LargeWork", "is_large_request", "mark_large_request"]

LARGE = 64 * 1024
"""Bytes of a request that is large. One piece of work on so many takes less than a millisecond."""
_MOST_BODIES = 16
"""Large bodies of one caller that are received at a time; the others wait in their connections, 64 kB each."""
_RATE = 4_000_000
"""Bytes a second of one caller's large bodies that are worked on while other callers send requests."""
_LONGEST_PACE = 1.0
"""Seconds by which one body delays its caller's next one, at most."""
_RECENT = 1.0
"""Seconds for which another caller counts as there."""

_is_large: ContextVar[bool] = ContextVar("taskmill_large_request", default=False)


def mark_large_request() -> None:
    """Let what runs in this context know that its request is large."""
    _is_large.set(True)


def is_large_request() -> bool:
    """Whether the request that is served here is large."""
    return _is_large.get()


class LargeWork:
    """Of one replica: one piece in an iteration of the event loop, callers in rotation, first come first served each.

    While several callers send requests, the loop is left to others for as long after a piece as the piece took: large
    requests have half of it at most. One caller alone is not slowed down.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        """By caller; the first is next."""
        self._is_busy = False
        self._began = 0.0
        self._latest = ""
        self._changed_at = -_RECENT
        """When a request came from another caller than the one before."""
        self._receiving: dict[str, tuple[asyncio.Semaphore, set[object]]] = {}
        self._paced: dict[str, float] = {}
        """When the next large body of a caller may be worked on, on the event loop's clock; until then."""

    def note(self, who: str) -> None:
        """A caller has sent a request, of any size."""
        if who != self._latest:
            if self._latest:
                self._changed_at = asyncio.get_running_loop().time()
            self._latest = who

    async def wait(self, who: str) -> None:
        """Return when the next piece of a caller's work may be done: at once if no other was done just now."""
        if not self._is_busy:
            self._start()
            return
        granted = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(who, deque()).append(granted)
        await granted

    @asynccontextmanager
    async def receiving(self, who: str) -> AsyncIterator[None]:
        """Hold one of the caller's places for a large body that is being received, as soon as there is one.

        Callers without a token have no limit: they are one principal, and a slow one must not hold up the others.
        """
        if who == ANONYMOUS:
            yield
            return
        places, holders = self._receiving.setdefault(who, (asyncio.Semaphore(_MOST_BODIES), set()))
        holder = object()
        holders.add(holder)
        try:
            async with places:
                yield
        finally:
            holders.discard(holder)
            if not holders:
                self._receiving.pop(who, None)

    async def pace(self, who: str, size: int) -> None:
        """Wait until a body of `size` bytes, which has been received, is within its caller's rate.

        `wait` shares the time of this replica. Behind it, Redis and a worker have as much to do with the call again.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        if who == ANONYMOUS or not self._is_shared(now):
            return
        begins = max(now, self._paced.get(who, 0.0))
        until = self._paced[who] = begins + min(size / _RATE, _LONGEST_PACE)
        loop.call_at(until, self._forget_pace, who, until)
        if begins > now:
            await sleep(begins - now)

    def _forget_pace(self, who: str, until: float) -> None:
        if self._paced.get(who) == until:
            del self._paced[who]

    def _is_shared(self, now: float) -> bool:
        """Whether several callers send requests."""
        return now - self._changed_at < _RECENT

    def _start(self) -> None:
        """A piece is done in this iteration of the loop, or, where one has waited, at the beginning of the next."""
        loop = asyncio.get_running_loop()
        self._is_busy, self._began = True, loop.time()
        loop.call_soon(self._after_piece)

    def _after_piece(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._waiting and self._is_shared(now):
            loop.call_later(now - self._began, self._next)
        else:
            self._next()

    def _next(self) -> None:
        while self._waiting:
            who, queue = self._waiting.popitem(last=False)
            granted = queue.popleft()
            if queue:
                self._waiting[who] = queue  # behind all others
            if not granted.done():
                granted.set_result(None)
                self._start()
                return
        self._is_busy = False
