"""What tools log for their callers, sent to those who follow the task: together every twentieth of a second, the rest
with the end of the attempt.

Nothing keeps them. Where a tool logs more than a client could read, the rest is counted, and the caller gets the
number.
"""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic

from taskmill.engine.errors import OperatorError
from taskmill.engine.events import LogMessage

__all__ = ["LogReport", "LogWriter", "fitting"]

LogReport = tuple[str, int, Sequence[LogMessage]]
"""Task id, fence, messages."""
_INTERVAL = 0.05
_BURST = 200
"""Messages that a task may log at once..."""
_A_SECOND = 50
"""...and in each second after that."""
_LONGEST = 16 * 1024
"""Bytes of one message as JSON."""


@dataclass
class _Logged:
    """What one attempt has logged and no one was sent."""

    pending: deque[LogMessage] = field(default_factory=deque)
    left_out: int = 0
    room: float = _BURST
    at: float = field(default_factory=monotonic)

    def add(self, message: LogMessage) -> None:
        now = monotonic()
        self.room, self.at = min(_BURST, self.room + (now - self.at) * _A_SECOND), now
        if self.room < 1:
            self.left_out += 1
            return
        self.room -= 1
        self.pending.append(fitting(message))

    def take(self, *, is_last: bool = False) -> list[LogMessage]:
        messages = list(self.pending)
        self.pending.clear()
        if self.left_out and (is_last or self.room >= 1):
            text = f"{self.left_out} log messages were left out here: more than {_A_SECOND} a second."
            messages.append(LogMessage("warning", text))
            self.left_out = 0
        return messages


class LogWriter:
    """A background service: start, stop. `report` never waits, and is called in the event loop."""

    def __init__(self, write: Callable[[Sequence[LogReport]], Awaitable[None]]) -> None:
        self._write = write
        self._logged: dict[tuple[str, int], _Logged] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start writing."""
        self._task = asyncio.create_task(self._run(), name="taskmill.logs")

    async def stop(self) -> None:
        """Stop writing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def report(self, task_id: str, fence: int, message: LogMessage) -> None:
        """Have a message sent soon."""
        key = (task_id, fence)
        if key not in self._logged:
            self._logged[key] = _Logged()
        self._logged[key].add(message)
        self._wake.set()

    def take_last(self, task_id: str, fence: int) -> list[LogMessage]:
        """What is not sent yet of an attempt that has ended; it is forgotten."""
        logged = self._logged.pop((task_id, fence), None)
        return [] if logged is None else logged.take(is_last=True)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(_INTERVAL)
            due = [(*key, messages) for key, logged in self._logged.items() if (messages := logged.take())]
            if not due:
                continue
            try:
                await self._write(due)
            except OperatorError:
                continue  # those who follow the task cannot be reached now, and nothing keeps them


def fitting(message: LogMessage) -> LogMessage:
    """The message, or what stands for one that is no JSON or too long."""
    try:
        size = len(json.dumps([message.data, message.logger], ensure_ascii=False, allow_nan=False).encode())
    except (TypeError, ValueError, RecursionError):
        return LogMessage(message.level, "A log message that is no JSON was left out.")
    if size <= _LONGEST:
        return message
    if isinstance(message.data, str):
        return LogMessage(message.level, message.data[: _LONGEST - 1] + "…", message.logger)
    return LogMessage(message.level, f"A log message of {size:,} bytes was left out.", message.logger)
