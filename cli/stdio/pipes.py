"""The pipes of the host as the streams that the SDK serves. Framing and messages are the SDK's.

Neither can delay the exit. Who owns the descriptors is in `host_pipes.py`.
"""

import asyncio
import os
from collections.abc import Callable
from io import TextIOWrapper

import anyio
import anyio.to_thread

from taskmill.cli.stdio.answer_recorder import AnswerRecorder
from taskmill.cli.stdio.host_pipes import HostLines

__all__ = ["ProtocolInput", "ProtocolOutput"]

_LAST_WORDS_TIMEOUT = 0.4
"""Seconds in which messages that follow a signal are read; Claude Code takes 60 ms. Hosts kill after two seconds."""


class ProtocolInput(anyio.AsyncFile[str]):
    """Lines of the host."""

    def __init__(self, lines: HostLines, on_line: Callable[[], object], on_end: Callable[[], object]) -> None:
        """Must be made in the event loop. `on_line` is called for each line, `on_end` at the end."""
        super().__init__(TextIOWrapper(lines.file))
        self._on_line = on_line
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._lines: asyncio.Queue[bytes] = asyncio.Queue()
        lines.attach(lambda line: self._loop.call_soon_threadsafe(self._lines.put_nowait, line))

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


class ProtocolOutput(anyio.AsyncFile[str]):
    """Messages to the host, each written whole. After the host has closed its side they are lost: see `on_closed`."""

    def __init__(self, descriptor: int, recorder: AnswerRecorder, on_closed: Callable[[], object]) -> None:
        """`recorder` gets each message; `on_closed` is called when the host has closed its side."""
        super().__init__(os.fdopen(descriptor, "w", encoding="utf-8", closefd=False))
        self._descriptor = descriptor
        self._recorder = recorder
        self._on_closed = on_closed
        # A thread of its own: tools may use all threads of the shared pool.
        self._limiter = anyio.CapacityLimiter(1)

    async def write(self, text: str) -> int:
        """Write a message; returns when it is in the host's pipe."""
        if self._recorder.passes(text):
            data = text.encode("utf-8", errors="replace")
            await anyio.to_thread.run_sync(self._write_all, data, limiter=self._limiter)
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
