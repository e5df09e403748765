"""How a call shows that it goes on: a bar in a terminal, else a line a second at most. Always on standard error.

Knows nothing but the words of the protocol: a percentage is read from the end of a status message, "(42%)".
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
    """What shows the state of a call."""

    def show(self, words: str) -> None:
        """The state as it is now."""

    def note(self, line: str) -> None:
        """A line from elsewhere (a log), which must not spoil the picture."""

    def pause(self) -> None:
        """Make room for a question; the next `show` ends the pause."""

    def close(self) -> None:
        """Nothing more will be shown."""


def display_for(title: str) -> Display:
    """A bar if standard error is a terminal, else lines."""
    return _Bar(title) if sys.stderr.isatty() else _Lines(title)


class _Bar:
    def __init__(self, title: str) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[percent]}", markup=False),
            TextColumn("{task.fields[words]}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._bar = self._progress.add_task(printable(title), total=None, percent="", words="starting")
        self._progress.start()

    def show(self, words: str) -> None:
        found = _PERCENT.search(words)
        if found:
            done = min(100, int(found[1]))
            text = printable(words[: found.start()])
            self._progress.update(self._bar, total=100, completed=done, percent=f"{done:3}%", words=text)
        else:
            self._progress.update(self._bar, words=printable(words))
        self._progress.start()

    def note(self, line: str) -> None:
        self._console.print(Text.from_ansi(line))

    def pause(self) -> None:
        self._progress.stop()

    def close(self) -> None:
        self._progress.stop()


class _Lines:
    def __init__(self, title: str) -> None:
        self._title = printable(title)
        self._last = ""
        self._next = 0.0

    def show(self, words: str) -> None:
        now = time.monotonic()
        if words and words != self._last and now >= self._next:
            self._last, self._next = words, now + _LINE_EVERY
            self.note(f"{self._title}: {printable(words)}")

    def note(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    def pause(self) -> None:
        self._next = 0.0

    def close(self) -> None:
        pass
