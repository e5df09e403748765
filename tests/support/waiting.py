"""Waiting for something to happen: a bounded poll that fails with what it saw last. No fixed sleeps."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from redis.exceptions import ConnectionError

from taskmill.engine.errors import StoreUnavailable

__all__ = ["PROMPTLY", "WAIT_SECONDS", "eventually", "eventually_async"]

WAIT_SECONDS = 50.0
"""For processes to start, act and end, on a machine that runs much else. Less than half of pytest's own timeout."""
PROMPTLY = 15.0
"""For what a push brings, or a limit of less than a second, on such a machine. A test of it sets the poll or the lease
to a minute, so that this limit tells the two apart; how fast it is, `bench/` measures."""
T = TypeVar("T")


def eventually(probe: Callable[[], T], enough: Callable[[T], object] = bool, *, within: float = WAIT_SECONDS) -> T:
    """The first answer of the probe that is enough. `within`: seconds.

    Raises:
        AssertionError: No answer was enough in that time; it shows the last one.
    """
    deadline = time.monotonic() + within
    while not enough(answer := probe()):
        assert time.monotonic() < deadline, f"not within {within:g} s; last seen: {answer!r}"
        time.sleep(0.02)
    return answer


async def eventually_async(
    probe: Callable[[], Awaitable[T] | T], enough: Callable[[T], object] = bool, *, within: float = 40
) -> T:
    """The same in an event loop, where the probe may be async. A store that is away counts as no answer."""
    deadline = time.monotonic() + within
    answer: Any = None
    while True:
        try:
            answer = probe()
            if isinstance(answer, Awaitable):
                answer = await answer
            if enough(answer):
                return answer  # type: ignore[no-any-return]  # the awaited answer is a T
        except (StoreUnavailable, ConnectionError) as exc:
            answer = exc
        assert time.monotonic() < deadline, f"not within {within:g} s; last seen: {answer}"
        await asyncio.sleep(0.005)
