"""Starts a worker when a task of a queue waits and no worker serves the queue. The worker outlives this process.

For a server that its host may kill at any time. Several servers of one user share a worker; it ends when it is idle.
"""

import asyncio
import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from taskmill.adapters.remote.target import is_remote
from taskmill.cli.errors import CommandFailed, Failure
from taskmill.cli.processes.child import Child
from taskmill.cli.processes.worker_log import make_data_directory, worker_log_in
from taskmill.engine.errors import StoreUnavailable
from taskmill.store.connection.client import connect
from taskmill.store.embedded.supervisor import take_lock
from taskmill.store.settings import StoreSettings
from taskmill.store.tasks.redis_store import RedisTaskStore
from taskmill.store.tasks.stats import queues_of
from taskmill.workers.health import is_killed

__all__ = ["OnDemandWorker", "WorkerNeed"]

log = structlog.get_logger()

_IDLE_EXIT = 120
"""Seconds without a task after which a worker ends."""
_CHECK_DELAYS = (0.02, 0.1, 0.3, 1.0)
"""Seconds between checks after a message of the host, which may become a task a moment later."""
_CHECK_EVERY = 5.0
"""Seconds between checks without messages: retries and the tasks of dead workers become due without one."""
_LAST_CHECK_TIMEOUT = 1.0
"""Seconds that the last check may take."""
_FIRST_RETRY_DELAY = 1.0
_MAX_RETRY_DELAY = 60.0
_START_TIMEOUT = 15.0
"""Seconds that a new worker has to register in the store; until then other processes start none."""


@dataclass(frozen=True)
class WorkerNeed:
    """A queue that needs a worker, and what that worker must have."""

    target: str
    """The server, as a command line names it; valid from any working directory."""
    queue: str
    tools: frozenset[str]
    """The task tools of this queue: a worker that lacks one of them does not serve it."""
    flags: Sequence[str]
    """Further flags of `taskmill worker`."""


class OnDemandWorker:
    """Checks one queue from `open` to `close`, and starts a worker for it if need be."""

    def __init__(self, need: WorkerNeed, settings: StoreSettings) -> None:
        """Must be made in the event loop."""
        self._need = need
        self._queue = settings.qualified(need.queue)
        self._home = settings.home
        settings = settings.at_shard(settings.shard_of(need.queue))
        self._redis = connect(settings)
        self._store = RedisTaskStore(self._redis, settings)
        self._loop = asyncio.get_running_loop()
        self._wakeup = asyncio.Event()
        self._failures = 0
        self._not_before = 0.0

    def open(self) -> asyncio.Task[None]:
        """Start to check. The returned task ends only with an error."""
        self._checking = self._loop.create_task(self._check_forever())
        return self._checking

    def wake(self) -> None:
        """Check soon: there may be a task."""
        self._wakeup.set()

    async def close(self) -> None:
        """Check a last time, and stop. If a worker is needed, it is started, but not awaited."""
        self._checking.cancel()
        await asyncio.wait([self._checking])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_CHECK_TIMEOUT):
                await self._check()
        await self._redis.aclose()

    async def _check_forever(self) -> None:
        while True:
            self._wakeup.clear()
            for delay in _CHECK_DELAYS:
                await asyncio.sleep(delay)
                await self._check()
            # Not `wait_for`: before Python 3.12 it loses a cancel that comes in the same moment as the wake-up.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CHECK_EVERY):
                    await self._wakeup.wait()

    async def _check(self) -> None:
        if self._loop.time() < self._not_before:
            return
        try:
            if await self._store.due(self._queue) and not self._is_served(await self._store.workers()):
                await self._start_if_none()
        except StoreUnavailable as exc:
            log.debug("standby.store_unavailable", error=str(exc))

    def _is_served(self, workers: Sequence[Mapping[str, Any]]) -> bool:
        return any(self._serves(worker) for worker in workers)

    def _serves(self, worker: Mapping[str, Any]) -> bool:
        is_right = self._queue in queues_of(worker) and self._need.tools <= set(worker["tools"])
        return is_right and not worker.get("leaving") and not is_killed(worker)

    async def _start_if_none(self) -> None:
        """Start a worker, unless another process of this user has started one, which may not be registered yet."""
        make_data_directory(self._home)
        lock = take_lock(self._home / f"worker-{self._queue.replace('/', '-')}.lock", fcntl.LOCK_EX)
        if lock is None:
            return
        try:
            workers = await self._store.workers()
            if not self._is_served(workers) and not _is_starting(lock, workers):
                await self._start(lock, worker_log_in(self._home))
        finally:
            os.close(lock)

    async def _start(self, lock: int, log_file: Path) -> None:
        need = self._need
        ends = ("--idle-exit", str(_IDLE_EXIT), "--exit-when-changed")
        words = [need.target, "--queue", need.queue, *ends, *need.flags]
        # What an own server prints while it is loaded goes to the host. A command that is started for the worker lives
        # on with it, and would hold the host's pipe.
        with log_file.open("ab") if is_remote(need.target) else contextlib.nullcontext() as output:
            child = Child("worker", words, output=output)
            await self._start_child(child, lock, log_file)

    async def _start_child(self, child: Child, lock: int, log_file: Path) -> None:
        try:
            await child.start()
        except CommandFailed as exc:
            self._delay_next_start(exc.failure)
            return
        except asyncio.CancelledError:
            if child.detach(log_file):
                _record_pid(lock, child.pid)
            raise
        # At once: this process may be killed before it could do this later.
        child.detach(log_file)
        _record_pid(lock, child.pid)
        child.close()
        self._failures = 0
        log.info("worker.left", queue=self._need.queue, pid=child.pid, log=str(log_file))

    def _delay_next_start(self, failure: Failure) -> None:
        delay = min(_MAX_RETRY_DELAY, _FIRST_RETRY_DELAY * 2 ** min(self._failures, 10))
        self._failures += 1
        self._not_before = self._loop.time() + delay
        log.error("worker.failed", queue=self._need.queue, why=failure.message, again_in=delay)


def _record_pid(lock: int, pid: int | None) -> None:
    """Write the id of a starting worker into the lock's file: it is read there even if this process has been killed."""
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(pid).encode(), 0)


def _is_starting(lock: int, workers: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the worker recorded in the lock's file lives and is not yet registered in the store."""
    recorded = os.pread(lock, 32, 0)
    if not recorded.isdigit() or time.time() - os.fstat(lock).st_mtime > _START_TIMEOUT:
        return False
    started = {"host": socket.gethostname(), "pid": int(recorded)}
    is_registered = any(started.items() <= worker.items() for worker in workers)
    return not is_registered and not is_killed(started)
