"""The places of one worker: how many attempts work at the same time.

An attempt that only waits for answers gives its place up; who does, and for what, is not known here.
"""

import asyncio
from collections import deque
from collections.abc import Callable

__all__ = ["Slots"]


class Slots:
    """Places are taken and given from the event loop only."""

    def __init__(self, size: int, on_free: Callable[[], None]) -> None:
        """`on_free` is called whenever a place has become free."""
        self._size = size
        self._on_free = on_free
        self._taken = 0
        self._queue: deque[asyncio.Future[None]] = deque()

    @property
    def free(self) -> int:
        """Places for new attempts: those that want theirs back come first."""
        return max(0, self._size - self._taken - len(self._queue))

    def take(self, places: int = 1) -> None:
        """Take places for new attempts; the caller has looked that they are free."""
        self._taken += places

    def give(self, places: int = 1) -> None:
        """Give places up; whoever waits to go on gets them first."""
        free = self.free
        self.put_back(places)
        if self.free > free:
            self._on_free()

    def put_back(self, places: int) -> None:
        """Give places up that were never used, so that it is no news for new attempts that they are free."""
        for _ in range(places):
            while self._queue and self._queue[0].done():
                del self._queue[0]
            if not self._queue:
                self._taken -= 1
                continue
            self._queue[0].set_result(None)
            del self._queue[0]

    async def take_back(self) -> None:
        """Take a place again, in turn with the others that want to go on."""
        if self._taken < self._size:
            self._taken += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give()
            elif turn in self._queue:
                self._queue.remove(turn)
            raise
