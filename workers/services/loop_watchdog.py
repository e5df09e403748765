"""Notices that something blocks the event loop, and logs what it is: from a thread, because the loop cannot.

Leases are renewed from a thread too (`leases.py`), so a blocked loop costs no task its lease, but all of them time.
"""

import asyncio
import sys
import threading
from pathlib import Path
from time import monotonic
from types import FrameType

import structlog

from taskmill.workers.attempts.active import ActiveTasks

__all__ = ["LoopWatchdog"]

log = structlog.get_logger()
_TICK = 0.25
"""Seconds between two ticks of the loop."""
_BLOCKED_AFTER = 1.0
"""Seconds without a tick after which the log says so; then after twice as many, and so on."""
_LOOP_FOLDERS = (str(Path(asyncio.__file__).parent), str(Path(__file__).parents[1]))
"""What runs the loop: asyncio, and where uvloop is called."""


class LoopWatchdog:
    """A background service: start, stop."""

    def __init__(self, active: ActiveTasks) -> None:
        self._active = active
        self._last = monotonic()
        self._stopping = threading.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0

    def start(self) -> None:
        """Start watching; call from the event loop."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._tick()
        threading.Thread(target=self._watch, name="taskmill.loop_watchdog", daemon=True).start()

    async def stop(self) -> None:
        """Stop watching."""
        self._stopping.set()
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        self._last = monotonic()
        assert self._loop is not None
        self._timer = self._loop.call_later(_TICK, self._tick)

    def _watch(self) -> None:
        log_after, since = _BLOCKED_AFTER, 0.0
        while not self._stopping.wait(_TICK):
            silent = monotonic() - self._last
            if silent >= log_after and self._is_in_the_way():
                self._log_blocked(silent)
                log_after, since = log_after * 2, self._last
            elif silent < _BLOCKED_AFTER and since:
                log.info("loop.free", seconds=round(self._last - since, 1))
                log_after, since = _BLOCKED_AFTER, 0.0

    def _is_in_the_way(self) -> bool:
        """Whether a task is held up, and by code: on a machine that runs much else, a loop that waits is late too."""
        assert self._loop is not None
        if not self._active.all():
            return False
        frame = sys._current_frames().get(self._loop_thread)
        return asyncio.current_task(self._loop) is not None or not _is_of_the_loop(frame)

    def _log_blocked(self, seconds: float) -> None:
        """Log which task blocks the loop, and at which line."""
        running = None if self._loop is None else asyncio.current_task(self._loop)
        attempt = next((task for task in self._active.all() if task.main_task is running), None) if running else None
        frame = sys._current_frames().get(self._loop_thread)
        log.warning(
            "loop.blocked",
            task_id=attempt.id if attempt else None,
            tool=attempt.tool if attempt else None,
            seconds=round(seconds, 1),
            at=_location(frame),
            advice="use a plain def, asyncio.to_thread or isolation='process' for work that blocks",
        )


def _is_of_the_loop(frame: FrameType | None) -> bool:
    """Whether this is where a thread is while its loop waits."""
    file = "" if frame is None else frame.f_code.co_filename
    return file.startswith(_LOOP_FOLDERS) or file.endswith("selectors.py")


def _location(frame: FrameType | None) -> str:
    """The line that is running, as `file:line in function`."""
    if frame is None:
        return "unknown"
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
