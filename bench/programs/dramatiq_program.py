"""dramatiq under test: `work`, `send TOOL COUNT GAP`. Redis: BENCH_REDIS_URL, slots (threads): BENCH_CONCURRENCY."""

import logging
import os
import sys
import time
from pathlib import Path

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from journal import note_first, note_now
from pace import paced_plain

dramatiq.set_broker(RedisBroker(url=os.environ["BENCH_REDIS_URL"]))


@dramatiq.actor(actor_name="nop")
def nop() -> None:
    """Do nothing."""
    note_first("started")


@dramatiq.actor(actor_name="stamp")
def stamp(sent_ns: int) -> None:
    """Note when it was sent and when it started."""
    note_now("stamped", sent_ns)


def main(mode: str, *words: str) -> None:
    """Run one of the modes."""
    logging.disable(logging.INFO)
    if mode == "work":
        os.environ["PYTHONPATH"] = str(Path(__file__).parent)
        slots = ["--processes", "1", "--threads", os.environ["BENCH_CONCURRENCY"]]
        os.execv(sys.executable, [sys.executable, "-m", "dramatiq", "dramatiq_program", *slots])
    tool, count, gap = words
    paced_plain(lambda: stamp.send(time.monotonic_ns()) if tool == "stamp" else nop.send(), int(count), float(gap))


if __name__ == "__main__":
    main(*sys.argv[1:])
