"""Everything that one worker process needs around its attempts: store, tools, leases, signals, progress, repairs.

Opened once in a process, by Taskmill's worker and by a stock arq worker alike. It makes attempts and settles their
endings; `loop.py` and `arq_worker.py` decide which tasks to claim, and when.
"""

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, assert_never

import structlog

from taskmill.engine.errors import StoreUnavailable
from taskmill.engine.ports import Toolbox, ToolSource
from taskmill.store.artifacts.artifacts import ArtifactStore
from taskmill.store.claims.claims import Claimed, ClaimStore
from taskmill.store.claims.heartbeat import Heartbeat
from taskmill.store.claims.journal import JournalStore
from taskmill.store.connection.client import open_redis
from taskmill.store.formats.queue_names import is_under_development
from taskmill.store.metrics.counts import TaskCounts
from taskmill.store.metrics.writer import CountWriter
from taskmill.store.scripts import Call
from taskmill.store.sessions.caller_state import CallerStateStore, open_caller_states
from taskmill.store.sessions.list_changes import ListChanges
from taskmill.store.tasks.output import OutputStore
from taskmill.store.tasks.redis_store import RedisTaskStore
from taskmill.store.tasks.worker_orders import WorkerOrders
from taskmill.store.webhooks.deliveries import DeliveryStore
from taskmill.workers.attempts.active import ActiveTasks, Stop
from taskmill.workers.attempts.attempt import Attempt
from taskmill.workers.attempts.counts import AttemptCounts
from taskmill.workers.attempts.endings import Ending, Finish, Park, Release, kind_of
from taskmill.workers.attempts.log_messages import LogReport, LogWriter
from taskmill.workers.attempts.output import AttemptOutput
from taskmill.workers.attempts.progress import ProgressWriter, Report
from taskmill.workers.attempts.slots import Slots
from taskmill.workers.health import WorkerHealth
from taskmill.workers.isolation.toolbox import IsolatingTools
from taskmill.workers.services.abandoned_queues import AbandonedQueues
from taskmill.workers.services.leases import LeaseKeeper
from taskmill.workers.services.loop_watchdog import LoopWatchdog
from taskmill.workers.services.reconciler import Reconciler
from taskmill.workers.services.scheduler import Scheduler
from taskmill.workers.services.signals import SignalListener
from taskmill.workers.settings import WorkerSettings
from taskmill.workers.webhooks.deliverer import webhook_services

__all__ = ["WorkerRuntime", "open_worker_runtime"]

log = structlog.get_logger()


class WorkerRuntime:
    """The open parts of one worker, and what its attempts need of them."""

    def __init__(
        self,
        settings: WorkerSettings,
        store: ClaimStore,
        toolbox: Toolbox,
        *,
        journals: JournalStore,
        output: OutputStore,
        artifacts: ArtifactStore,
        caller_states: CallerStateStore,
        active: ActiveTasks,
        health: WorkerHealth,
        leases: LeaseKeeper,
    ) -> None:
        self.settings = settings
        self.store = store
        self.active = active
        self.progress = ProgressWriter(self._write_progress)
        self.logs = LogWriter(self._write_logs)
        self.wake = asyncio.Event()
        """Set when a slot has become free; the worker's loop waits for it."""
        self.slots = Slots(settings.concurrency, self.wake.set)
        self.on_orders: Callable[[], None] = _nothing
        """Called when `is_drained` may have changed; the worker's loop sets it."""
        self.on_more_queues: Callable[[], None] = _nothing
        """Called when `queues` has more than before; the worker's loop sets it."""
        self._toolbox = toolbox
        self._journals = journals
        self._output = output
        self._artifacts = artifacts
        self._caller_states = caller_states
        self._health = health
        self._leases = leases
        self.counts = TaskCounts()
        """What this worker has counted of its attempts."""
        self._queues: dict[str, str] = {}
        """Queue by tool, as Redis has it."""
        self._attempts = AttemptCounts(self.counts, self._queue_of)
        self._reporting: set[asyncio.Task[None]] = set()

    @property
    def is_drained(self) -> bool:
        """Whether an operator wants it to take no tasks."""
        return self._health.is_drained

    def obey(self, orders: WorkerOrders) -> None:
        """Do what operators want of this worker; event loop only. A stock arq worker cannot."""
        if not self._health.obeys:
            return
        slots = self.settings.concurrency if orders.slots is None else orders.slots.value
        if slots != self.slots.size:
            log.info("worker.concurrency_changed", slots=slots, before=self.slots.size)
            self._health.slots = slots
            self.slots.resize(slots)
        self._health.is_drained = orders.is_drained
        self.on_orders()
        self._leases.renew_now()

    @property
    def queues(self) -> str:
        """The queues that this worker claims from now, as Redis has them, separated by commas."""
        return ",".join(self._health.queues)

    def _queue_of(self, tool: str) -> str:
        """The queue of a tool, as Redis has it; of one that this worker has not, a queue that it serves."""
        if (known := self._queues.get(tool)) is not None:
            return known
        policy = self._toolbox.policy(tool)
        if policy is None:
            return self._health.queues[0]
        self._queues[tool] = self.settings.qualified(policy.queue)
        return self._queues[tool]

    def attempt(self, claimed: Claimed) -> Attempt:
        """An attempt at a claimed task, ready to run; it owns a slot that the caller has taken."""
        self._attempts.started(claimed)
        output = AttemptOutput(
            self._output,
            self._artifacts,
            task_id=claimed.id,
            fence=claimed.fence,
            principal=claimed.principal,
            inline_limit=self.settings.inline_result,
        )
        return Attempt(
            claimed,
            toolbox=self._toolbox,
            store=self.store,
            journals=self._journals,
            active=self.active,
            progress=self.progress,
            logs=self.logs,
            slots=self.slots,
            output=output,
            caller_states=self._caller_states,
            tool_timeout=self.settings.tool_timeout,
            on_asked=self._attempts.asked,
            list_changes=self._report_list_changes,
        )

    def stop_all(self, why: Stop) -> None:
        """Tell every attempt to stop."""
        for task in self.active.all():
            task.stop(why)

    def calls_of(self, ending: Ending) -> list[Call]:
        """The calls that send an ending to the store: the last progress, why the attempt failed, then the move."""
        task = ending.task
        calls: list[Call] = []
        if last := self.logs.take_last(task.id, task.fence):
            calls.append(self.store.log_call(task.id, task.fence, last))
        if ending.progress is not None:
            calls.append(self.store.progress_call([(task.id, task.fence, ending.progress)]))
        if not isinstance(ending, Park) and ending.error is not None:
            calls.append(self.store.error_call(task.id, task.fence, task.attempt, ending.error))
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

    def settle(self, ending: Ending, reply: bytes) -> bool:
        """The store has answered the move of an ending with `reply`: log the result; True if the task has ended."""
        task = ending.task
        self.active.remove(task.id, task.fence)
        facts: dict[str, Any] = {"task_id": task.id, "tool": task.tool, "attempt": task.attempt, "fence": task.fence}
        if reply == b"lost":
            log.info("task.word_too_late", **facts)
            return False
        self._attempts.ended(ending)
        if isinstance(ending, Park):
            log.info("task.parked", answered=reply == b"released", **facts)
            return False
        if reply == b"drained":
            log.error("task.drained_too_often", limit=self.settings.drain_limit, **facts)
            return True
        if reply == b"released again":
            log.warning("task.drained_often", hint="something stops its workers again and again", **facts)
        if isinstance(ending, Release):
            log.info("task.released", reason=ending.reason, delay=ending.delay.total_seconds(), **facts)
            return False
        self._health.count_run(ending.seconds)
        log.info("task.settled", outcome=kind_of(ending), seconds=round(ending.seconds, 3), **facts)
        return True

    def announce_leaving(self) -> None:
        """Publish without delay that this worker claims nothing more."""
        self._health.is_leaving = True
        self._leases.renew_now()

    def _report_list_changes(self, kinds: Collection[str]) -> None:
        reporting = asyncio.get_running_loop().create_task(self._publish_list_changes(kinds), name="taskmill.lists")
        self._reporting.add(reporting)
        reporting.add_done_callback(self._reporting.discard)

    async def _publish_list_changes(self, kinds: Collection[str]) -> None:
        states = self._caller_states  # on the default shard, where servers listen
        with suppress(StoreUnavailable):
            await ListChanges(states.redis, states.settings).publish(kinds)

    async def _write_progress(self, reports: Sequence[Report]) -> None:
        await self.store.run_batch([self.store.progress_call(reports)])

    async def _write_logs(self, reports: Sequence[LogReport]) -> None:
        await self.store.run_batch([self.store.log_call(*report) for report in reports])


def _nothing() -> None:
    pass


@asynccontextmanager
async def open_worker_runtime(
    source: ToolSource, settings: WorkerSettings, *, is_stock: bool = False
) -> AsyncIterator[WorkerRuntime]:
    """The runtime of a worker, with its background services running. `is_stock`: arq's own loop claims.

    Raises:
        StoreUnavailable, RedisUnfit, SettingsError: see `store.connection.open_redis`.
    """
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    async with (
        open_redis(settings) as redis,
        open_caller_states(settings, redis) as caller_states,
        IsolatingTools(source, settings).toolbox() as toolbox,
    ):
        store = ClaimStore(redis, settings, name)
        artifacts = ArtifactStore(redis, settings, store.scripts)
        active = ActiveTasks(settings.lease)
        health = WorkerHealth(name, settings, active, toolbox.policies)
        health.obeys = not is_stock
        heartbeat = Heartbeat(settings, store, name)
        leases = LeaseKeeper(
            heartbeat, active, settings.lease, health.as_json, obey=lambda orders: runtime.obey(orders)
        )
        runtime = WorkerRuntime(
            settings,
            store,
            toolbox,
            journals=JournalStore(redis, settings, store.scripts),
            output=OutputStore(redis, settings, store.scripts),
            artifacts=artifacts,
            caller_states=caller_states,
            active=active,
            health=health,
            leases=leases,
        )
        signals = SignalListener(settings, store.keys, active, worker=name, on_orders=leases.renew_now)
        reconciler = Reconciler(store, artifacts, timedelta(seconds=settings.reconcile_every))
        services: list[Any] = [leases, LoopWatchdog(active), signals, runtime.progress, runtime.logs, reconciler]
        services += _more_services(redis, runtime, settings, toolbox, health)
        async with _running(services), CountWriter(runtime.counts, redis, settings, store.scripts):
            await _wait_until_registered(leases, settings.command_timeout)
            _log_started(name, settings)
            yield runtime
        log.info("worker.stopped", worker=name, settled=health.settled)


def _more_services(
    redis: Any, runtime: WorkerRuntime, settings: WorkerSettings, toolbox: Toolbox, health: WorkerHealth
) -> list[Any]:
    """Services that do not serve this worker's own attempts."""
    store = runtime.store
    services: list[Any] = []
    services += webhook_services(DeliveryStore(redis, settings, store.scripts, store.keys), settings, toolbox)
    if is_under_development(settings.app or ""):
        services.append(AbandonedQueues(store, settings, health, lambda: runtime.on_more_queues()))
    if settings.schedules:
        scheduler = Scheduler(RedisTaskStore(redis, settings, runtime.counts), toolbox, settings)
        health.scheduled = scheduler.tools
        services.append(scheduler)
    return services


def _log_started(name: str, settings: WorkerSettings) -> None:
    facts = {"queue": settings.queue, "concurrency": settings.concurrency, "app": settings.app}
    log.info("worker.started", worker=name, **facts)


@asynccontextmanager
async def _running(services: Sequence[Any]) -> AsyncIterator[None]:
    for service in services:
        service.start()
    try:
        yield
    finally:
        for service in reversed(services):
            await service.stop()


async def _wait_until_registered(leases: LeaseKeeper, timeout: float) -> None:
    """A worker that takes tasks and that no one sees would have their status say that no worker serves the queue."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            await leases.wait_until_registered()
