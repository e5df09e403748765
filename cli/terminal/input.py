"""Input from the person at the terminal: lines, read without blocking the event loop, and Ctrl-C."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from taskmill.workers.process_signals import handle_signal

__all__ = ["InterruptHandler", "is_interactive", "read_line"]


def is_interactive() -> bool:
    """Whether questions can be asked: standard input is a terminal."""
    return sys.stdin is not None and sys.stdin.isatty()


async def read_line(prompt: str) -> str | None:
    """One typed line, without its line end; None at the end of input. A cancel loses this line and nothing else."""
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


class InterruptHandler:
    """Handles Ctrl-C: it ends the block inside `interruptible`; elsewhere it ends the command, as SIGTERM does."""

    def __init__(self) -> None:
        """Installs the signal handlers. A signal cancels the task that runs now."""
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._scope: anyio.CancelScope | None = None
        self.ended_by_signal: signal.Signals | None = None
        """The signal that ended the command, None if none did."""
        handle_signal(signal.SIGINT, self._interrupt)
        for number in (signal.SIGTERM, signal.SIGHUP):
            handle_signal(number, self._end, number)

    @contextmanager
    def interruptible(self) -> Iterator[anyio.CancelScope]:
        """Ctrl-C ends only this block; `.cancelled_caught` of the scope is then True."""
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
        self.ended_by_signal = number
        self._task.cancel()
