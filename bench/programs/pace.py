"""How producers send tasks: a number of them, a gap apart with some jitter, or without a gap on many lanes at once.

What was sent without a gap is noted: how many, in how many seconds.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from journal import note

_LANES = 50


async def paced(send: Callable[[], Awaitable[object]], count: int, gap: float) -> None:
    """Call `send` `count` times; `gap`: seconds between two calls, 0 = as fast as it goes."""
    if gap:
        for _ in range(count):
            await send()
            await asyncio.sleep(gap * random.uniform(0.5, 1.5))
        return
    budget = iter(range(count))

    async def lane() -> None:
        for _ in budget:
            await send()

    began = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(_LANES)))
    note("sent", count, time.perf_counter() - began)


def paced_plain(send: Callable[[], object], count: int, gap: float) -> None:
    """The same for a producer that is not async: one call after the other."""
    began = time.perf_counter()
    for _ in range(count):
        send()
        if gap:
            time.sleep(gap * random.uniform(0.5, 1.5))
    if not gap:
        note("sent", count, time.perf_counter() - began)
