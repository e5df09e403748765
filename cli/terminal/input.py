"""The person at the terminal: reads lines without blocking the event loop, and hears Ctrl-C."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

__all__ = ["CancelPrompt", "is_interactive", "read_line"]


def is_interactive() -> bool:
    """Whether questions can be asked: standard input is a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()


async def read_line(prompt: str) -> str | None:
    """One line of what is typed, without its end; None at the end of input. A cancel loses nothing but the line."""
    print(prompt, end="", file=sys.stderr, flush=True)
    descriptor = sys.stdin.fileno()
    loop = asyncio.get_running_loop()
    typed = asyncio.Event()
    loop.add_reader(descriptor, typed.set)
    try:
        await typed.wait()
    finally:
        loop.remove_reader(descriptor)
    # A terminal hands over a line at a time.
    data = os.read(descriptor, 65536)
    return data.decode(errors="replace").rstrip("\r\n") if data else None


class CancelPrompt:
    """Ctrl-C ends what is under way inside `interruptible`, elsewhere the whole command, as SIGTERM does."""

    def __init__(self) -> None:
        """For the running task, which is the one that is ended."""
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._scope: anyio.CancelScope | None = None
        self.ended_by: signal.Signals | None = None
        """The signal that ended the command, None if none did."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self._interrupt)
        for number in (signal.SIGTERM, signal.SIGHUP):
            # `nohup` has it ignored, and means it.
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._end, number)

    @contextmanager
    def interruptible(self) -> Iterator[anyio.CancelScope]:
        """Ctrl-C ends the block early and nothing else; `.cancelled_caught` then says so."""
        with anyio.CancelScope() as scope:
            self._scope = scope
            try:
                yield scope
            finally:
                self._scope = None

    def _interrupt(self) -> None:
        if self._scope is not None:
            self._scope.cancel()
        else:
            self._end(signal.SIGINT)

    def _end(self, number: signal.Signals) -> None:
        self.ended_by = number
        self._task.cancel()
