"""The slots of one worker: how many attempts run at the same time.

An attempt that only waits for answers releases its slot; which one does, and for what, is not known here.
"""

import asyncio
from collections import deque
from collections.abc import Callable

__all__ = ["Slots"]


class Slots:
    """Slots are taken and released from the event loop only."""

    def __init__(self, size: int, on_free: Callable[[], None]) -> None:
        """`on_free` is called whenever a slot has become free."""
        self._size = size
        self._on_free = on_free
        self._taken = 0
        self._queue: deque[asyncio.Future[None]] = deque()

    @property
    def free(self) -> int:
        """Slots for new attempts; attempts that want to go on are served before them."""
        return max(0, self._size - self._taken - len(self._queue))

    @property
    def size(self) -> int:
        """How many there are."""
        return self._size

    def resize(self, size: int) -> None:
        """Have so many from now on. Attempts that run keep theirs, also when that is more."""
        self._size = size
        while self._queue and self._taken < size:
            if not self._queue[0].done():
                self._taken += 1
                self._queue[0].set_result(None)
            del self._queue[0]
        if self.free:
            self._on_free()

    def take(self, count: int = 1) -> None:
        """Take slots for new attempts; the caller has checked that they are free."""
        self._taken += count

    def release(self, count: int = 1) -> None:
        """Release slots; attempts that wait to go on get them first."""
        free = self.free
        self.release_unused(count)
        if self.free > free:
            self._on_free()

    def release_unused(self, count: int) -> None:
        """Release slots that were never used. `on_free` is not called: for new attempts nothing has changed."""
        for _ in range(count):
            while self._queue and self._queue[0].done():
                del self._queue[0]
            if not self._queue or self._taken > self._size:
                self._taken -= 1
                continue
            self._queue[0].set_result(None)
            del self._queue[0]

    async def take_again(self) -> None:
        """Take a slot for an attempt that goes on; attempts get theirs in the order in which they asked."""
        if self._taken < self._size:
            self._taken += 1
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(granted)
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.release()
            elif granted in self._queue:
                self._queue.remove(granted)
            raise
