"""Standard output and error that may be closed or full: a command then fails in one line, or writes to nothing.

What is written is not known here.
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["OutputFailed", "checked_output", "open_missing"]

_FAILED = (errno.ENOSPC, errno.EPIPE, errno.EBADF, errno.EIO)


class OutputFailed(Exception):
    """What a command printed could not be written; the text says why."""


def open_missing() -> None:
    """Open the standard descriptors that the caller closed: the next opened file would get such a number."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:
        descriptor = os.dup(descriptor)
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


@contextmanager
def checked_output() -> Iterator[None]:
    """Write out at the end what was printed.

    Raises:
        OutputFailed: the disk is full, or the reader is gone. What is printed afterwards is dropped.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as exc:
        if exc.errno not in _FAILED:
            raise
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.close(null)
        raise OutputFailed(f"The output could not be written: {exc.strerror}.") from exc
