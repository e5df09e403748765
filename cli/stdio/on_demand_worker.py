"""A worker at hand whenever a task of a queue waits: a running one is shared, else one is started that outlives us.

For a server that its host may kill at any time. Workers end by themselves when they are idle.
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

from taskmill.cli.errors import Failure, Reported
from taskmill.cli.processes.child import Child
from taskmill.cli.processes.worker_log import make_data_directory, worker_log_in
from taskmill.engine.errors import StoreUnavailable
from taskmill.store.connection.client import connect
from taskmill.store.embedded.supervisor import hold
from taskmill.store.settings import StoreSettings
from taskmill.store.tasks.stats import queues_of
from taskmill.store.tasks.tasks import TaskStore

__all__ = ["OnDemandWorker", "WorkerNeed"]

log = structlog.get_logger()

_IDLE_EXIT = 120
"""Seconds without a task after which a worker ends."""
_LOOKS = (0.02, 0.1, 0.3, 1.0)
"""Seconds between looks after something came from the host, which may have become a task a moment later."""
_LOOK_EVERY = 5.0
"""Seconds between looks in silence: retries and the tasks of dead workers become due without a word."""
_LAST_LOOK = 1.0
"""Seconds that the last look may take."""
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
_LONGEST_OPENING = 15.0
"""Seconds that a new worker has until it shows in the store; others start none meanwhile."""


@dataclass(frozen=True)
class WorkerNeed:
    """What is to be manned."""

    target: str
    """The server, as a command line names it, from any working directory."""
    queue: str
    tools: frozenset[str]
    """The task tools of this queue: a worker that lacks one is not the right one."""
    words: Sequence[str]
    """Further flags of `taskmill worker`."""


class OnDemandWorker:
    """Looks after one post from `open` to `close`."""

    def __init__(self, post: WorkerNeed, settings: StoreSettings) -> None:
        """For the running loop."""
        self._post = post
        self._home = settings.home
        settings = settings.at_shard(settings.shard_of(post.queue))
        self._redis = connect(settings)
        self._store = TaskStore(self._redis, settings)
        self._loop = asyncio.get_running_loop()
        self._stirred = asyncio.Event()
        self._failures = 0
        self._not_before = 0.0

    def open(self) -> asyncio.Task[None]:
        """Begin; the task ends only if something is wrong here."""
        self._watching = self._loop.create_task(self._watch())
        return self._watching

    def stir(self) -> None:
        """Look soon: there may be a task."""
        self._stirred.set()

    async def close(self) -> None:
        """Look a last time, and stop. A worker that is needed is started, but not waited for."""
        self._watching.cancel()
        await asyncio.wait([self._watching])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_LOOK):
                await self._look()
        await self._redis.aclose()

    async def _watch(self) -> None:
        while True:
            self._stirred.clear()
            for pause in _LOOKS:
                await asyncio.sleep(pause)
                await self._look()
            # Not `wait_for`: before Python 3.12 it takes no notice of a cancel in the moment that it is stirred.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_EVERY):
                    await self._stirred.wait()

    async def _look(self) -> None:
        if self._loop.time() < self._not_before:
            return
        try:
            if await self._store.due(self._post.queue) and not self._is_manned(await self._store.workers()):
                await self._man()
        except StoreUnavailable as exc:
            log.debug("standby.store_unavailable", error=str(exc))

    def _is_manned(self, workers: Sequence[Mapping[str, Any]]) -> bool:
        return any(self._serves(worker) for worker in workers)

    def _serves(self, worker: Mapping[str, Any]) -> bool:
        is_right = self._post.queue in queues_of(worker) and self._post.tools <= set(worker["tools"])
        return is_right and not worker.get("leaving") and not _is_dead(worker)

    async def _man(self) -> None:
        """Start a worker, unless another process of this user is just doing so, or has and it is on its way."""
        make_data_directory(self._home)
        lock = hold(self._home / f"worker-{self._post.queue}.lock", fcntl.LOCK_EX)
        if lock is None:
            return
        try:
            workers = await self._store.workers()
            if not self._is_manned(workers) and not _is_coming(lock, workers):
                await self._start(lock, worker_log_in(self._home))
        finally:
            os.close(lock)

    async def _start(self, lock: int, log_file: Path) -> None:
        post = self._post
        ends = ("--idle-exit", str(_IDLE_EXIT), "--leave-when-changed")
        child = Child("worker", [post.target, "--queue", post.queue, *ends, *post.words])
        try:
            await child.start()
        except Reported as exc:
            self._note_failure(exc.failure)
            return
        except asyncio.CancelledError:
            if child.let_go(log_file):
                _announce(lock, child.pid)
            raise
        # At once: this process may be killed without a chance to say it.
        child.let_go(log_file)
        _announce(lock, child.pid)
        child.forget()
        self._failures = 0
        log.info("worker.left", queue=post.queue, pid=child.pid, log=str(log_file))

    def _note_failure(self, failure: Failure) -> None:
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(self._failures, 10))
        self._failures += 1
        self._not_before = self._loop.time() + pause
        log.error("worker.failed", queue=self._post.queue, why=failure.message, again_in=pause)


def _announce(lock: int, pid: int | None) -> None:
    """Leave word in the lock's file of a worker that is on its way, whatever becomes of this process."""
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(pid).encode(), 0)


def _is_coming(lock: int, workers: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a worker that was announced lives and is not to be seen in the store yet."""
    said = os.pread(lock, 32, 0)
    if not said.isdigit() or time.time() - os.fstat(lock).st_mtime > _LONGEST_OPENING:
        return False
    announced = {"host": socket.gethostname(), "pid": int(said)}
    has_come = any(announced.items() <= worker.items() for worker in workers)
    return not has_come and not _is_dead(announced)


def _is_dead(worker: Mapping[str, Any]) -> bool:
    """Whether a worker of this machine was killed: what it last said of itself lives on for a lease."""
    if worker.get("host") != socket.gethostname():
        return False
    try:
        os.kill(int(worker["pid"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # somebody else's
    return False
