"""Processes that tools have started with `multiprocessing` and not ended: they end with the process of the tool.

A process that exits by `os._exit`, as one must whose threads do not end, would leave them running for ever; and the
interpreter's own exit would wait for those that are no daemons, for ever too.
"""

import gc
import inspect
import multiprocessing
import threading
import time
from concurrent.futures import Executor
from multiprocessing.pool import Pool, ThreadPool
from multiprocessing.process import BaseProcess

import structlog

__all__ = ["child_processes", "end_child_processes"]

log = structlog.get_logger()
_END_TIMEOUT = 1.0
"""Seconds that they have, all together, to end on SIGTERM."""
_FEEDER_TIMEOUT = 0.3
"""Seconds for the thread of a queue to end with its executor. One of another queue does not end at all."""


def child_processes() -> set[BaseProcess]:
    """Processes of pools, executors and `Process` objects that this process has started and that still run."""
    return set(multiprocessing.active_children())


def end_child_processes() -> None:
    """End them: SIGTERM, then SIGKILL. Blocks for about two seconds at most."""
    children = child_processes()
    if not children:
        return
    log.info("process.ending_children", pids=sorted(child.pid or 0 for child in children))
    # A pool starts new processes for those that end, and its own end waits for a lock that a killed one would keep.
    ending = threading.Thread(target=_terminate_pools, name="taskmill.ending_pools", daemon=True)
    ending.start()
    ending.join(_END_TIMEOUT)
    children = child_processes()
    for child in children:
        child.terminate()
    deadline = time.monotonic() + _END_TIMEOUT
    for child in children:
        child.join(max(0.0, deadline - time.monotonic()))
        if child.is_alive():
            child.kill()


def _terminate_pools() -> None:
    # multiprocessing keeps no list of them; a worker has hidden from the collector what its start created.
    gc.unfreeze()
    ended = False
    for found in gc.get_objects():
        kind = type(found)
        if issubclass(kind, Pool) and not issubclass(kind, ThreadPool):
            found.terminate()
        elif issubclass(kind, Executor) and "kill_workers" in inspect.signature(kind.shutdown).parameters:
            # joblib keeps one for its next call. Left alone, it leaves semaphores and a folder in shared memory.
            end = found.terminate if hasattr(found, "terminate") else found.shutdown
            end(kill_workers=True)
            ended = True
    if ended:
        _join_feeders()


def _join_feeders() -> None:
    # The thread that feeds a queue keeps the queue's semaphores for a moment longer: what still has them at the end is
    # reported as leaked, by the process of joblib that removes it.
    for thread in threading.enumerate():
        if thread.name == "QueueFeederThread":
            thread.join(_FEEDER_TIMEOUT)
    gc.collect()
