"""taskiq under test, on its list broker: `work`, `send TOOL COUNT GAP`.

Redis: BENCH_REDIS_URL, slots: BENCH_CONCURRENCY.
"""

import asyncio
import logging
import os
import sys
import time
from pathlib import Path

from journal import note_first, note_now
from pace import paced
from taskiq_redis import ListQueueBroker

broker = ListQueueBroker(os.environ["BENCH_REDIS_URL"])


@broker.task(task_name="nop")
async def nop() -> str:
    """Do nothing."""
    note_first("started")
    return "done"


@broker.task(task_name="stamp")
async def stamp(sent_ns: int) -> str:
    """Note when it was sent and when it started."""
    note_now("stamped", sent_ns)
    return "done"


async def send(tool: str, count: int, gap: float) -> None:
    """Enqueue tasks."""
    await broker.startup()

    async def kick() -> None:
        await (stamp.kiq(time.monotonic_ns()) if tool == "stamp" else nop.kiq())

    await paced(kick, count, gap)
    await broker.shutdown()


def main(mode: str, *words: str) -> None:
    """Run one of the modes."""
    logging.disable(logging.INFO)
    if mode == "work":
        os.environ["PYTHONPATH"] = str(Path(__file__).parent)
        worker = ["worker", "taskiq_program:broker", "--workers", "1", "--log-level", "WARNING"]
        slots = ["--max-async-tasks", os.environ["BENCH_CONCURRENCY"]]
        os.execv(sys.executable, [sys.executable, "-m", "taskiq", *worker, *slots])
    asyncio.run(send(words[0], int(words[1]), float(words[2])))


if __name__ == "__main__":
    main(*sys.argv[1:])
