"""Where a program under test notes what happened and when: one line a note, appended to the file BENCH_JOURNAL.

The times are the machine's monotonic clock in nanoseconds, the same in every process. Alike for all contenders.
"""

import os
import time

_file: int | None = None
_seen: set[str] = set()


def note(*words: object) -> None:
    """Append a line of words."""
    global _file
    if _file is None:
        _file = os.open(os.environ["BENCH_JOURNAL"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(_file, (" ".join(map(str, words)) + "\n").encode())


def note_now(kind: str, *words: object) -> None:
    """Append a line that ends with the time."""
    note(kind, *words, time.monotonic_ns())


def note_first(kind: str) -> None:
    """`note_now`, the first time only."""
    if kind not in _seen:
        _seen.add(kind)
        note_now(kind)


def noted(kind: str, *words: object) -> bool:
    """Whether any of the programs has noted this."""
    try:
        with open(os.environ["BENCH_JOURNAL"]) as journal:
            return " ".join(map(str, (kind, *words))) + "\n" in journal
    except FileNotFoundError:
        return False


def is_open(name: str) -> bool:
    """Whether the file BENCH_JOURNAL.name is there, which the bench makes."""
    return os.path.exists(f"{os.environ['BENCH_JOURNAL']}.{name}")
