"""Standard input and output, reserved for the protocol: no other code here, and no child process, can use them.

Here is who owns the two descriptors, and the thread that reads the lines of the host. Imports nothing slow: the first
lines are read before the rest of the program is loaded.
"""

import fcntl
import os
import sys
import threading
from collections.abc import Callable
from io import TextIOWrapper
from typing import NamedTuple

from taskmill.cli.terminal.output import open_missing

__all__ = ["HostLines", "ProtocolPipes", "reserve_pipes"]


class ProtocolPipes(NamedTuple):
    """Duplicates of standard input and output."""

    input_descriptor: int
    output_descriptor: int


def reserve_pipes() -> ProtocolPipes:
    """Reserve both for the protocol. Other code then reads nothing from standard input, and writes to standard error.

    Call it before any code of the author, or of a library, runs.
    """
    open_missing()
    pipes = ProtocolPipes(_private_duplicate(0), _private_duplicate(1))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    if isinstance(sys.stdout, TextIOWrapper):
        # Printed text is read as a log: each line must appear when it is written. And a stream that was opened on a
        # file keeps a position, which standard error may not have.
        sys.stdout = open(1, "w", buffering=1, encoding=sys.stdout.encoding, errors="backslashreplace", closefd=False)  # noqa: SIM115
    return pipes


class HostLines:
    """The lines of the host. A thread reads them: a read cannot be cancelled, and the exit must not wait for it."""

    def __init__(self, descriptor: int, early: Callable[[bytes], bool]) -> None:
        """`early` gets each line first, in the reading thread; True if the line is served and must not go on."""
        self.file = os.fdopen(descriptor, "rb", closefd=False)
        """What is read; only by the thread."""
        self._lock = threading.Lock()
        self._early = early
        self._kept: list[bytes] = []
        self._receive: Callable[[bytes], object] | None = None
        self.first = threading.Event()
        """Set when a first line has been read, or the end."""
        threading.Thread(target=self._read, name="taskmill-stdin", daemon=True).start()

    def attach(self, receive: Callable[[bytes], object]) -> None:
        """Call `receive` for each line from now on, also those that have come before; empty at the end.

        It is called in this thread or in the reading one. RuntimeError: it wants no more.
        """
        with self._lock:
            for line in self._kept:
                receive(line)
            self._kept.clear()
            self._receive = receive

    def _read(self) -> None:
        line = b"-"
        while line:
            try:
                line = self.file.readline()
            except OSError:
                line = b""
            try:
                self._pass(line)
            except RuntimeError:
                return  # the loop is closed: no one reads any more
            self.first.set()

    def _pass(self, line: bytes) -> None:
        if self._early(line):
            return
        with self._lock:
            (self._receive or self._kept.append)(line)


def _private_duplicate(descriptor: int) -> int:
    """A duplicate above the standard descriptors, which no child process inherits."""
    duplicate = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.set_blocking(duplicate, True)
    return duplicate
