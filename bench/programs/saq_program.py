"""saq under test: `work`, `send TOOL COUNT GAP`, `await COUNT GAP`.

Redis: BENCH_REDIS_URL, slots: BENCH_CONCURRENCY.
"""

import asyncio
import logging
import os
import sys
import time
from typing import Any

from journal import note, note_first, note_now
from pace import paced
from redis.asyncio import Redis
from saq import Worker
from saq.queue.redis import RedisQueue


async def nop(_ctx: dict[str, Any]) -> str:
    """Do nothing."""
    note_first("started")
    return "done"


async def nap(_ctx: dict[str, Any]) -> str:
    """Wait 20 ms."""
    note_first("started")
    await asyncio.sleep(0.02)
    return "done"


async def stamp(_ctx: dict[str, Any], *, sent_ns: int) -> str:
    """Note when it was sent and when it started."""
    note_now("stamped", sent_ns)
    return "done"


def queue() -> RedisQueue:
    """The queue, with room for as many operations as there are lanes."""
    return RedisQueue(Redis.from_url(os.environ["BENCH_REDIS_URL"]), max_concurrent_ops=100)


async def send(tool: str, count: int, gap: float) -> None:
    """Enqueue jobs."""
    line = queue()

    async def enqueue() -> None:
        await (line.enqueue(tool, sent_ns=time.monotonic_ns()) if tool == "stamp" else line.enqueue(tool))

    await paced(enqueue, count, gap)
    await line.disconnect()


async def await_results(count: int, gap: float) -> None:
    """Enqueue one job after the other and wait for each one's result."""
    line = queue()

    async def apply() -> None:
        began = time.perf_counter()
        await line.apply("nop", poll_interval=0.002)  # it polls; by default twice a second
        note("answered", time.perf_counter() - began)

    await paced(apply, count, gap)
    await line.disconnect()


async def work() -> None:
    """Serve until the process is ended."""
    await Worker(queue(), [nop, nap, stamp], concurrency=int(os.environ["BENCH_CONCURRENCY"])).start()


def main(mode: str, *words: str) -> None:
    """Run one of the modes."""
    logging.disable(logging.INFO)
    match mode:
        case "work":
            asyncio.run(work())
        case "send":
            asyncio.run(send(words[0], int(words[1]), float(words[2])))
        case _:
            asyncio.run(await_results(int(words[0]), float(words[1])))


if __name__ == "__main__":
    main(*sys.argv[1:])
