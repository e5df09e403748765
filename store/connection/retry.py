"""Waits an outage of Redis out, for work that would rather be late than lost: a tool that has run for an hour."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential_jitter

from taskmill.engine.errors import StoreUnavailable

__all__ = ["until_available"]

T = TypeVar("T")


async def until_available(call: Callable[[], Awaitable[T]]) -> T:
    """What `call` returns, however often the store is away before; `call` must be safe to repeat."""
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(StoreUnavailable), wait=wait_exponential_jitter(multiplier=0.05, max=1.0)
    )
    async for attempt in retrying:
        with attempt:
            return await call()
    raise AssertionError("it is tried for ever")
