"""What the programs whose queues are not async have in common: `work`, `send TOOL COUNT GAP`."""

import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from journal import note_first, note_now
from pace import paced_plain

__all__ = ["nop", "run", "stamp"]


def nop() -> None:
    """Do nothing."""
    note_first("started")


def stamp(sent_ns: int) -> None:
    """Note when it was sent and when it started."""
    note_now("stamped", sent_ns)


def run(worker: Sequence[str], *, nop: Callable[[], object], stamp: Callable[[int], object]) -> None:
    """Run the mode that the command line names. `worker`: the module and words that start one; the rest enqueue."""
    logging.disable(logging.INFO)
    mode, *words = sys.argv[1:]
    if mode == "work":
        os.environ["PYTHONPATH"] = str(Path(__file__).parent)
        os.execv(sys.executable, [sys.executable, "-m", *worker])
    tool, count, gap = words
    paced_plain(lambda: stamp(time.monotonic_ns()) if tool == "stamp" else nop(), int(count), float(gap))
