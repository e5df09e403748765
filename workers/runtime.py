"""Everything one worker process needs around its attempts: store, toolbox, leases, signals, progress, repairs.

Opened once a process, by our worker and by a stock arq worker alike. It runs attempts and settles their endings;
which tasks to claim, and when, is the worker's own business.
"""

import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from time import time
from typing import Any, assert_never

import structlog

from taskmill.engine.outcome import Failed, Refused, Returned
from taskmill.engine.ports import Toolbox, ToolSource
from taskmill.store.artifacts.artifacts import ArtifactStore
from taskmill.store.claims.claims import Claimed, ClaimStore
from taskmill.store.claims.heartbeat import Heartbeat
from taskmill.store.claims.journal import JournalStore
from taskmill.store.connection.client import open_redis
from taskmill.store.scripts import Call
from taskmill.store.tasks.output import OutputStore
from taskmill.workers.attempts.active import ActiveTasks, Stop
from taskmill.workers.attempts.attempt import Attempt
from taskmill.workers.attempts.endings import Ending, Finish, Park, Release
from taskmill.workers.attempts.output import AttemptOutput
from taskmill.workers.attempts.progress import ProgressWriter, Report
from taskmill.workers.attempts.slots import Slots
from taskmill.workers.isolation.toolbox import IsolatingTools
from taskmill.workers.services.leases import LeaseKeeper
from taskmill.workers.services.loop_watchdog import LoopWatchdog
from taskmill.workers.services.reconciler import Reconciler
from taskmill.workers.services.signals import SignalListener
from taskmill.workers.settings import WorkerSettings

__all__ = ["WorkerRuntime", "open_worker_runtime"]

log = structlog.get_logger()
_LEARNS = 0.1
"""How much the latest run counts in the mean duration of runs."""


class WorkerRuntime:
    """A place where tasks are worked on."""

    def __init__(
        self,
        settings: WorkerSettings,
        store: ClaimStore,
        toolbox: Toolbox,
        name: str,
        *,
        journals: JournalStore,
        output: OutputStore,
        artifacts: ArtifactStore,
    ) -> None:
        self.settings = settings
        self.store = store
        self.name = name
        self.held = ActiveTasks(settings.lease)
        self.board = ProgressWriter(self._write_progress)
        self.stir: Callable[[], None] = lambda: None
        """Called when a place has become free."""
        self.say: Callable[[], None] = lambda: None
        """Writes the health key without delay."""
        self._is_leaving = False
        self.slots = Slots(settings.concurrency, lambda: self.stir())
        self._toolbox = toolbox
        self._journals = journals
        self._output = output
        self._artifacts = artifacts
        self._since = time()
        self._mean_seconds: float | None = None
        self.settled = 0
        """Tasks finished so far."""

    def attempt(self, claimed: Claimed) -> Attempt:
        """An attempt at a claimed task, ready to run; it owns a place that the caller has taken."""
        outlet = AttemptOutput(
            self._output,
            self._artifacts,
            task_id=claimed.id,
            fence=claimed.fence,
            inline_limit=self.settings.inline_result,
        )
        return Attempt(
            claimed,
            toolbox=self._toolbox,
            store=self.store,
            journals=self._journals,
            held=self.held,
            board=self.board,
            slots=self.slots,
            outlet=outlet,
        )

    def stop_all(self, why: Stop) -> None:
        """Tell every attempt to stop."""
        for task in self.held.all():
            task.stop(why)

    def calls_of(self, ending: Ending) -> list[Call]:
        """What the store must be told of an ending: the last progress, then the move."""
        task = ending.task
        calls: list[Call] = []
        if ending.progress is not None:
            calls.append(self.store.progress_call([(task.id, task.fence, ending.progress)]))
        match ending:
            case Finish():
                calls.append(self.store.finish_call(task.id, task.fence, ending.outcome, reason=ending.reason))
            case Release():
                calls.append(
                    self.store.release_call(
                        task.id, task.fence, delay=ending.delay, failures=ending.failures, reason=ending.reason
                    )
                )
            case Park():
                calls.append(self.store.park_call(task.id, task.fence))
            case _:
                assert_never(ending)
        return calls

    def note(self, ending: Ending, reply: bytes) -> bool:
        """An ending was told, and this was the reply: log what became of it; True if the task is over."""
        task = ending.task
        self.held.remove(task.id, task.fence)
        facts: dict[str, Any] = {"task_id": task.id, "tool": task.tool, "attempt": task.attempt, "fence": task.fence}
        if reply == b"lost":
            log.info("task.word_too_late", **facts)
            return False
        if isinstance(ending, Park):
            log.info("task.parked", answered=reply == b"released", **facts)
            return False
        if isinstance(ending, Release):
            log.info("task.released", reason=ending.reason, delay=ending.delay.total_seconds(), **facts)
            return False
        self.settled += 1
        mean = ending.seconds if self._mean_seconds is None else self._mean_seconds
        self._mean_seconds = mean + _LEARNS * (ending.seconds - mean)
        log.info("task.settled", outcome=_kind(ending), seconds=round(ending.seconds, 3), **facts)
        return True

    def leave(self) -> None:
        """Say that this worker takes nothing more on."""
        self._is_leaving = True
        self.say()

    def health(self) -> dict[str, Any]:
        """What the health key says; called from the lease thread."""
        return {
            "worker": self.name,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": int(self._since),
            "queue": self.settings.queue,
            "concurrency": self.settings.concurrency,
            "running": len(self.held.fences()),
            "settled": self.settled,
            "mean_seconds": None if self._mean_seconds is None else round(self._mean_seconds, 4),
            "tools": sorted(self._toolbox.policies()),
            "leaving": self._is_leaving,
        }

    async def _write_progress(self, reports: Sequence[Report]) -> None:
        await self.store.run_batch([self.store.progress_call(reports)])


def _kind(ending: Finish) -> str:
    match ending.outcome:
        case Returned():
            return "tool_error" if ending.outcome.is_error else "completed"
        case Refused():
            return "refused"
        case Failed():
            return ending.outcome.fault.value
        case _:
            assert_never(ending.outcome)


@asynccontextmanager
async def open_worker_runtime(source: ToolSource, settings: WorkerSettings) -> AsyncIterator[WorkerRuntime]:
    """A station at work, with its background services.

    Raises:
        StoreUnavailable, RedisUnfit, SettingsError: see `store.connection.open_redis`.
    """
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    async with open_redis(settings) as redis, IsolatingTools(source).toolbox() as toolbox:
        store = ClaimStore(redis, settings, name)
        output = OutputStore(redis, settings, store.scripts)
        artifacts = ArtifactStore(redis, settings, store.scripts)
        journals = JournalStore(redis, settings, store.scripts)
        station = WorkerRuntime(settings, store, toolbox, name, journals=journals, output=output, artifacts=artifacts)
        leases = LeaseKeeper(Heartbeat(settings, store, name), station.held, settings.lease, station.health)
        station.say = leases.renew_now
        signals = SignalListener(settings, store.keys, station.held, worker=name)
        reconciler = Reconciler(store, artifacts, timedelta(seconds=settings.reconcile_every))
        services = (leases, LoopWatchdog(station.held), signals, station.board, reconciler)
        for service in services:
            service.start()
        log.info("worker.started", worker=name, queue=settings.queue, concurrency=settings.concurrency)
        try:
            yield station
        finally:
            for service in reversed(services):
                await service.stop()
            log.info("worker.stopped", worker=name, settled=station.settled)
