"""Work on large requests, which keeps the event loop for milliseconds a piece: others are served between the pieces.

A piece is what a request does without waiting: to read its JSON, to check its arguments, to write them for the store.
Another thread would not help: what reads and writes JSON holds Python's lock.
"""

import asyncio
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

    def note(self, who: str) -> None:
        """A caller has sent a request, of any size."""
        if who != self._latest:
            self._latest, self._changed_at = who, asyncio.get_running_loop().time()

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

    def _start(self) -> None:
        """A piece is done in this iteration of the loop, or, where one has waited, at the beginning of the next."""
        loop = asyncio.get_running_loop()
        self._is_busy, self._began = True, loop.time()
        loop.call_soon(self._after_piece)

    def _after_piece(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._waiting and now - self._changed_at < _RECENT:
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
