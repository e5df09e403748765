"""Notices that something blocks the event loop, and says in the log what: from a thread, because the loop cannot.

Leases are renewed from a thread too (`leases.py`), so this costs no task its lease; it costs all of them time.
"""

import asyncio
import sys
import threading
from time import monotonic
from types import FrameType

import structlog

from taskmill.workers.attempts.active import ActiveTasks

__all__ = ["LoopWatchdog"]

log = structlog.get_logger()
_BEAT = 0.25
"""Seconds between two signs of life of the loop."""
_PATIENCE = 1.0
"""Seconds without one after which the log says so; then after twice as many, and so on."""


class LoopWatchdog:
    """A background service: start, stop."""

    def __init__(self, held: ActiveTasks) -> None:
        self._held = held
        self._last = monotonic()
        self._stopping = threading.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0

    def start(self) -> None:
        """Start watching; call from the event loop."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._beat()
        threading.Thread(target=self._watch, name="taskmill.pulse", daemon=True).start()

    async def stop(self) -> None:
        """Stop watching."""
        self._stopping.set()
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        self._last = monotonic()
        assert self._loop is not None
        self._timer = self._loop.call_later(_BEAT, self._beat)

    def _watch(self) -> None:
        told, since = _PATIENCE, 0.0
        while not self._stopping.wait(_BEAT):
            silent = monotonic() - self._last
            if silent >= told:
                self._tell(silent)
                told, since = told * 2, self._last
            elif silent < _PATIENCE and since:
                log.info("loop.free", seconds=round(self._last - since, 1))
                told, since = _PATIENCE, 0.0

    def _tell(self, seconds: float) -> None:
        """Say which task is on the loop, and where it is."""
        running = None if self._loop is None else asyncio.current_task(self._loop)
        attempt = next((task for task in self._held.all() if task.tool is running), None) if running else None
        frame = sys._current_frames().get(self._loop_thread)
        log.warning(
            "loop.blocked",
            task_id=attempt.id if attempt else None,
            tool=attempt.name if attempt else None,
            seconds=round(seconds, 1),
            at=_place(frame),
            advice="use a plain def, asyncio.to_thread or isolation='process' for work that blocks",
        )


def _place(frame: FrameType | None) -> str:
    """The line that runs, as `file:line in function`."""
    if frame is None:
        return "unknown"
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
