"""How producers send tasks: a number of them, a gap apart with some jitter, or without a gap on many lanes at once."""

import asyncio
import random
from collections.abc import Awaitable, Callable

_LANES = 20


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

    await asyncio.gather(*(lane() for _ in range(_LANES)))
