"""Reads an async iterator with a time limit on each item, for streams that must also send something in silence."""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Generic, TypeVar

__all__ = ["TimedReader"]

T = TypeVar("T")


class TimedReader(Generic[T]):
    """A read that has timed out is not lost: the next one goes on with it. `async with` cancels what is still open."""

    def __init__(self, items: AsyncIterator[T]) -> None:
        self._items = items
        self._pending: asyncio.Future[T | None] | None = None

    async def __aenter__(self) -> "TimedReader[T]":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._pending is not None:
            self._pending.cancel()
            await _wait_out(self._pending)

    async def next(self, timeout: float | None) -> T | None:
        """The next item, None = there are no more. `timeout`: seconds, None = no limit.

        Raises:
            TimeoutError: no item came in time.
        """
        if self._pending is None:
            self._pending = asyncio.ensure_future(_next(self._items))
        await asyncio.wait([self._pending], timeout=timeout)
        if not self._pending.done():
            raise TimeoutError
        read, self._pending = self._pending, None
        return read.result()


async def _wait_out(read: asyncio.Future[Any]) -> None:
    """Wait until `read` has ended, also when it is this wait that is cancelled: who leaves then closes the iterator.

    Raises:
        CancelledError: the wait was cancelled; `read` has ended.
    """
    cancelled: asyncio.CancelledError | None = None
    while not read.done():
        try:
            await asyncio.wait([read])
        except asyncio.CancelledError as exc:
            cancelled = exc
            read.cancel()  # once more: an iterator may have taken the first one for its own
    if cancelled is not None:
        raise cancelled


async def _next(items: AsyncIterator[T]) -> T | None:
    return await anext(items, None)
