"""Standard input and output as the protocol's alone: nobody else in this process, or started by it, can use them.

Framing and messages are the SDK's; here is only who owns the two descriptors, and that neither can hold up the end.
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

__all__ = ["Pipes", "ProtocolInput", "ProtocolOutput", "take_pipes"]


@dataclass(frozen=True)
class Pipes:
    """The descriptors of what were standard input and output."""

    reading: int
    writing: int


def take_pipes() -> Pipes:
    """Take both for the protocol. Others then read nothing from standard input, and write to standard error.

    To be called before any code of the author's, or a library's, runs.
    """
    _open_missing()
    taken = Pipes(_private(0), _private(1))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    if isinstance(sys.stdout, TextIOWrapper):
        # What is printed is read as a log, where it matters when a line was written.
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    return taken


def _open_missing() -> None:
    """A host may start us without a standard error, and the next file to be opened would take its number."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:
        descriptor = os.dup(descriptor)
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _private(descriptor: int) -> int:
    """A duplicate beyond the standard ones that no child process inherits."""
    duplicate = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.set_blocking(duplicate, True)
    return duplicate


class ProtocolInput(anyio.AsyncFile[str]):
    """Lines of the host. A thread of its own reads them: a read cannot be called off, and must not be waited for."""

    def __init__(self, descriptor: int, heard: Callable[[], object], ended: Callable[[], object]) -> None:
        """For the running loop; `heard` is told of each line, `ended` of the end."""
        self._file = os.fdopen(descriptor, "rb", closefd=False)
        super().__init__(TextIOWrapper(self._file))
        self._heard = heard
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[bytes] = asyncio.Queue()
        threading.Thread(target=self._read, name="taskmill-stdin", daemon=True).start()

    async def readline(self) -> str:
        """The next line; empty at the end."""
        line = await self._lines.get()
        (self._heard if line else self._ended)()
        return line.decode("utf-8", errors="replace")

    def end(self) -> None:
        """Take no more lines: the end, as if the host had closed its side."""
        self._lines.put_nowait(b"")

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
                return  # the loop is closed: nobody listens any more


class ProtocolOutput(anyio.AsyncFile[str]):
    """Messages to the host, each written whole. Once the host is gone they go nowhere, and `gone` is told."""

    def __init__(self, descriptor: int, gone: Callable[[], object]) -> None:
        super().__init__(os.fdopen(descriptor, "w", encoding="utf-8", closefd=False))
        self._descriptor = descriptor
        self._gone = gone
        # A thread of its own: tools may keep all those that are shared.
        self._turn = anyio.CapacityLimiter(1)

    async def write(self, text: str) -> int:
        """Hand a message over; returns when the host's pipe has taken it."""
        await anyio.to_thread.run_sync(self._put, text.encode("utf-8", errors="replace"), limiter=self._turn)
        return len(text)

    async def flush(self) -> None:
        """Nothing: no message is kept back."""

    def _put(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            anyio.from_thread.run_sync(self._gone)
