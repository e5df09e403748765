"""Runs the author's plain functions, each in its own thread. A cancel leaves the thread running: none can be killed."""

import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread

__all__ = ["in_own_thread", "running_in_threads"]

_lock = threading.Lock()
_running = 0


async def in_own_thread(call: Callable[[], Any]) -> Any:
    """The result of `call`, which keeps running when this is cancelled."""
    # A limiter of its own: the worker bounds what runs at once, and a thread left behind must not take a slot.
    alone = anyio.CapacityLimiter(1)
    return await anyio.to_thread.run_sync(_counted, call, abandon_on_cancel=True, limiter=alone)


def running_in_threads() -> int:
    """How many of these functions have not returned, including those left behind."""
    return _running


def _counted(call: Callable[[], Any]) -> Any:
    global _running
    with _lock:
        _running += 1
    try:
        return call()
    finally:
        with _lock:
            _running -= 1
