"""Celery under test, on threads: `work`, `send TOOL COUNT GAP`. Redis: BENCH_REDIS_URL, slots: BENCH_CONCURRENCY."""

import logging
import os
import sys
import time
from pathlib import Path

from celery import Celery
from journal import note_first, note_now
from pace import paced_plain

app = Celery("bench", broker=os.environ["BENCH_REDIS_URL"].replace("unix://", "redis+socket://"))
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)


@app.task(name="nop")
def nop() -> None:
    """Do nothing."""
    note_first("started")


@app.task(name="stamp")
def stamp(sent_ns: int) -> None:
    """Note when it was sent and when it started."""
    note_now("stamped", sent_ns)


def main(mode: str, *words: str) -> None:
    """Run one of the modes."""
    logging.disable(logging.INFO)
    if mode == "work":
        os.environ["PYTHONPATH"] = str(Path(__file__).parent)
        slots = ["--pool", "threads", "--concurrency", os.environ["BENCH_CONCURRENCY"], "--loglevel", "WARNING"]
        os.execv(sys.executable, [sys.executable, "-m", "celery", "-A", "celery_program", "worker", *slots])
    tool, count, gap = words
    paced_plain(lambda: stamp.delay(time.monotonic_ns()) if tool == "stamp" else nop.delay(), int(count), float(gap))


if __name__ == "__main__":
    main(*sys.argv[1:])
