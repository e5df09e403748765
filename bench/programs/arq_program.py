"""Plain arq under test: `work`, `send TOOL COUNT GAP`. Redis: BENCH_REDIS_URL, slots: BENCH_CONCURRENCY.

With BENCH_ARQ_TUNED the worker polls every 5 ms; everything else stays arq's default.
"""

import asyncio
import logging
import os
import sys
import time
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker
from journal import note_first, note_now
from pace import paced


async def nop(_ctx: dict[Any, Any]) -> str:
    """Do nothing."""
    note_first("started")
    return "done"


async def stamp(_ctx: dict[Any, Any], sent_ns: int) -> str:
    """Note when it was sent and when it started."""
    note_now("stamped", sent_ns)
    return "done"


def redis_settings() -> RedisSettings:
    """Where Redis is."""
    return RedisSettings.from_dsn(os.environ["BENCH_REDIS_URL"])


async def send(tool: str, count: int, gap: float) -> None:
    """Enqueue jobs."""
    pool = await create_pool(redis_settings())

    async def enqueue() -> None:
        await pool.enqueue_job(tool, *([time.monotonic_ns()] if tool == "stamp" else []))

    await paced(enqueue, count, gap)
    await pool.aclose()


async def work() -> None:
    """Serve until the process is ended."""
    tuning = {"poll_delay": 0.005} if os.environ.get("BENCH_ARQ_TUNED") else {}
    worker = Worker(
        functions=[nop, stamp],  # type: ignore[list-item]  # arq's protocol wants *args of every function
        redis_settings=redis_settings(),
        max_jobs=int(os.environ["BENCH_CONCURRENCY"]),
        handle_signals=False,
        **tuning,
    )
    await worker.async_run()


def main(mode: str, *words: str) -> None:
    """Run one of the modes."""
    logging.disable(logging.INFO)
    asyncio.run(work() if mode == "work" else send(words[0], int(words[1]), float(words[2])))


if __name__ == "__main__":
    main(*sys.argv[1:])
