"""ArdiQ under test: `work`, `send TOOL COUNT GAP`. Redis: BENCH_REDIS_URL, slots: BENCH_CONCURRENCY."""

import asyncio
import logging
import os
import sys
import time

from ardiq import Ardiq
from journal import note_first, note_now
from pace import paced

app = Ardiq(os.environ["BENCH_REDIS_URL"], concurrency=int(os.environ.get("BENCH_CONCURRENCY") or 1))


@app.task
async def nop() -> str:
    """Do nothing."""
    note_first("started")
    return "done"


@app.task
async def stamp(sent_ns: int) -> str:
    """Note when it was sent and when it started."""
    note_now("stamped", sent_ns)
    return "done"


async def send(tool: str, count: int, gap: float) -> None:
    """Enqueue tasks."""

    async def enqueue() -> None:
        await (stamp.enqueue(time.monotonic_ns()) if tool == "stamp" else nop.enqueue())

    await paced(enqueue, count, gap)


def main(mode: str, *words: str) -> None:
    """Run one of the modes."""
    logging.disable(logging.INFO)
    if mode == "work":
        asyncio.run(app.run())
    else:
        asyncio.run(send(words[0], int(words[1]), float(words[2])))


if __name__ == "__main__":
    main(*sys.argv[1:])
