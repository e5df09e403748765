"""How a call shows its progress: a bar in a terminal, else at most one line a second. Always on standard error.

Only status messages are used: a percentage is read from the end of a message, "(42%)".
"""

import re
import sys
import time
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from taskmill.cli.terminal.escaping import printable

__all__ = ["Display", "display_for"]

_PERCENT = re.compile(r"\s*\((\d{1,3})%\)\s*$")
_LINE_EVERY = 1.0


class Display(Protocol):
    """Shows the state of a call."""

    def show(self, text: str) -> None:
        """Show the present state."""

    def print_line(self, line: str) -> None:
        """Print a line from elsewhere (a log) without damaging the bar."""

    def pause(self) -> None:
        """Make room for a question; the next `show` ends the pause."""

    def close(self) -> None:
        """End the display."""


def display_for(title: str) -> Display:
    """A bar if standard error is a terminal, else lines."""
    return _BarDisplay(title) if sys.stderr.isatty() else _LineDisplay(title)


class _BarDisplay:
    def __init__(self, title: str) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[percent]}", markup=False),
            TextColumn("{task.fields[text]}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._bar = self._progress.add_task(printable(title), total=None, percent="", text="starting")
        self._progress.start()

    def show(self, text: str) -> None:
        match = _PERCENT.search(text)
        if match:
            done = min(100, int(match[1]))
            words = printable(text[: match.start()])
            self._progress.update(self._bar, total=100, completed=done, percent=f"{done:3}%", text=words)
        else:
            self._progress.update(self._bar, text=printable(text))
        self._progress.start()

    def print_line(self, line: str) -> None:
        self._console.print(Text.from_ansi(line))

    def pause(self) -> None:
        self._progress.stop()

    def close(self) -> None:
        self._progress.stop()


class _LineDisplay:
    def __init__(self, title: str) -> None:
        self._title = printable(title)
        self._last = ""
        self._next = 0.0

    def show(self, text: str) -> None:
        now = time.monotonic()
        if text and text != self._last and now >= self._next:
            self._last, self._next = text, now + _LINE_EVERY
            self.print_line(f"{self._title}: {printable(text)}")

    def print_line(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def pause(self) -> None:
        self._next = 0.0

    def close(self) -> None:
        pass
