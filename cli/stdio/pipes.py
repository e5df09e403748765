"""Standard input and output, reserved for the protocol: no other code here, and no child process, can use them.

Framing and messages are the SDK's. Here is only who owns the two descriptors, and that neither can delay the exit.
"""

import asyncio
import fcntl
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from io import TextIOWrapper

import anyio
import anyio.to_thread

from taskmill.cli.terminal.output import open_missing

__all__ = ["ProtocolInput", "ProtocolOutput", "ProtocolPipes", "reserve_pipes"]

_LAST_WORDS_TIMEOUT = 0.4
"""Seconds in which messages that follow a signal are read; Claude Code takes 60 ms. Hosts kill after two seconds."""


@dataclass(frozen=True)
class ProtocolPipes:
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
        # Printed text is read as a log: each line must appear when it is written.
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    return pipes


def _private_duplicate(descriptor: int) -> int:
    """A duplicate above the standard descriptors, which no child process inherits."""
    duplicate = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.set_blocking(duplicate, True)
    return duplicate


class ProtocolInput(anyio.AsyncFile[str]):
    """Lines of the host. A thread reads them: a read cannot be cancelled, and the exit must not wait for it."""

    def __init__(self, descriptor: int, on_line: Callable[[], object], on_end: Callable[[], object]) -> None:
        """Must be made in the event loop. `on_line` is called for each line, `on_end` at the end."""
        self._file = os.fdopen(descriptor, "rb", closefd=False)
        super().__init__(TextIOWrapper(self._file))
        self._on_line = on_line
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[bytes] = asyncio.Queue()
        threading.Thread(target=self._read, name="taskmill-stdin", daemon=True).start()

    async def readline(self) -> str:
        """The next line; empty at the end."""
        line = await self._lines.get()
        (self._on_line if line else self._on_end)()
        return line.decode("utf-8", errors="replace")

    def end(self) -> None:
        """End the input, as if the host had closed its side."""
        self._lines.put_nowait(b"")

    def end_soon(self) -> None:
        """End the input after a moment: at Ctrl-C a host first sends the signal and then `notifications/cancelled`."""
        self._loop.call_later(_LAST_WORDS_TIMEOUT, self.end)

    def _read(self) -> None:
        line = b"-"
        while line:
            try:
                line = self._file.readline()
            except OSError:
                line = b""
            try:
                self._loop.call_soon_threadsafe(self._lines.put_nowait, line)
            except RuntimeError:
                return  # the loop is closed: no one reads any more


class ProtocolOutput(anyio.AsyncFile[str]):
    """Messages to the host, each written whole. After the host has closed its side they are lost: see `on_closed`."""

    def __init__(self, descriptor: int, on_closed: Callable[[], object]) -> None:
        """`on_closed` is called when the host has closed its side."""
        super().__init__(os.fdopen(descriptor, "w", encoding="utf-8", closefd=False))
        self._descriptor = descriptor
        self._on_closed = on_closed
        # A thread of its own: tools may use all threads of the shared pool.
        self._limiter = anyio.CapacityLimiter(1)

    async def write(self, text: str) -> int:
        """Write a message; returns when it is in the host's pipe."""
        await anyio.to_thread.run_sync(self._write_all, text.encode("utf-8", errors="replace"), limiter=self._limiter)
        return len(text)

    async def flush(self) -> None:
        """Does nothing: messages are not buffered."""

    def _write_all(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            anyio.from_thread.run_sync(self._on_closed)
