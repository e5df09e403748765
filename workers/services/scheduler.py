"""Makes tasks of the firings of the tools' schedules. Every worker tries; the store lets one of them make each.

When a schedule fires is in `engine/timing/schedule.py`. A worker minds the tools whose queues it serves.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import structlog

from taskmill.engine.errors import CallerError, OperatorError, StoreUnavailable
from taskmill.engine.policy import TaskConfig
from taskmill.engine.ports import ScheduledCall, Toolbox
from taskmill.engine.principal import SCHEDULE, PrincipalLimits
from taskmill.engine.record import Firing, NewTask
from taskmill.engine.timing.schedule import ON_TIME_MS, Schedule
from taskmill.store.tasks.redis_store import RedisTaskStore
from taskmill.store.tasks.schedules import Seen, firing_id, schedule_name
from taskmill.workers.services.background_task import BackgroundTask
from taskmill.workers.settings import WorkerSettings

__all__ = ["Scheduler"]

log = structlog.get_logger()
_LOOK_EVERY = 30.0
"""Seconds between looks at the tools and at Redis's clock, at most."""
_TRY_AGAIN = 1.0
"""Seconds until a firing is tried again that could not be made, or whose tool is paused."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A tool that runs by itself."""

    tool: str
    name: str
    policy: TaskConfig
    schedule: Schedule
    call: ScheduledCall


class Scheduler(BackgroundTask):
    """A background service: start, stop."""

    name = "taskmill.scheduler"

    def __init__(self, store: RedisTaskStore, toolbox: Toolbox, settings: WorkerSettings) -> None:
        self._store = store
        self._toolbox = toolbox
        self._settings = settings
        self._entries: dict[str, _Entry] = {}
        self._warned: dict[tuple[str, str], int] = {}
        """The latest firing of each tool that was reported, by log event: one that was missed may not be made, too."""
        self._failed: set[str] = set()
        """Tools whose calls cannot be made now."""

    def tools(self) -> list[str]:
        """The tools whose schedules it minds; any thread."""
        return sorted(name for name, policy in self._toolbox.policies().items() if self._minds(policy))

    def _minds(self, policy: TaskConfig) -> bool:
        return policy.schedule is not None and policy.queue in self._settings.queues

    async def _run(self) -> None:
        while True:
            wait = _TRY_AGAIN
            with suppress(StoreUnavailable):
                await self._learn(self._toolbox.policies())
                if wanted := list(self._entries.values()):
                    wait = await self._fire_due(wanted)
                else:
                    wait = _LOOK_EVERY
            await asyncio.sleep(wait)

    async def _learn(self, policies: Mapping[str, TaskConfig]) -> None:
        """Know the tools that run by themselves; they may come and go where the server's tools do."""
        known = {tool: entry for tool, entry in self._entries.items() if policies.get(tool) is entry.policy}
        for tool, policy in policies.items():
            schedule = policy.firings if tool not in known and self._minds(policy) else None
            if schedule is None:
                continue
            name = schedule_name(self._settings.app or "", tool)
            await self._begin(tool, name, schedule)
            if (call := self._call_of(tool)) is not None:
                known[tool] = _Entry(tool, name, policy, schedule, call)
        self._entries = known

    async def _begin(self, tool: str, name: str, schedule: Schedule) -> None:
        begun = await self._store.scheduling.begin(name, schedule.as_json())
        if begun == "ahead":
            log.warning(
                "schedule.was_ahead", tool=tool, hint="the clock of Redis went back: it fires from now on again"
            )
        elif begun != "known":
            log.info("schedule.begun", tool=tool, schedule=schedule.text, is_new=begun == "new")

    def _call_of(self, tool: str) -> ScheduledCall | None:
        """The call that its firings make; None: the author's code fails, which is no reason to leave out others."""
        try:
            call = self._toolbox.scheduled_call(tool)
        except Exception as exc:
            if tool not in self._failed:
                log.error("schedule.failed", tool=tool, exc_info=exc, hint="it fires once its concurrency_key works")
            self._failed.add(tool)
            return None
        self._failed.discard(tool)
        return call

    async def _fire_due(self, entries: list[_Entry]) -> float:
        """Make the tasks that are due; seconds until there may be more."""
        seen = await self._store.scheduling.seen([entry.name for entry in entries])
        wait = _LOOK_EVERY
        for entry in entries:
            made = await self._fire(entry, seen)
            next_ms = entry.schedule.next_after(seen.now_ms) or seen.now_ms + 60_000
            wait = min(wait, (next_ms - seen.now_ms) / 1000, wait if made else _TRY_AGAIN)
        return wait

    async def _fire(self, entry: _Entry, seen: Seen) -> bool:
        """Make the tasks of one schedule; False if that has to be tried again."""
        known = seen.schedules.get(entry.name)
        if (
            known is None or known.seen_ms > seen.now_ms + ON_TIME_MS
        ):  # another program deleted it, or the clock went back
            await self._begin(entry.tool, entry.name, entry.schedule)
            return False
        due = entry.schedule.due(known.seen_ms, seen.now_ms)
        if due and seen.is_paused(self._settings.app or "", entry.tool, entry.policy.queue):
            return False
        missed = entry.schedule.missed_at(known.seen_ms, seen.now_ms)
        if missed is not None and self._is_new("schedule.missed", entry.tool, missed):
            makes_up = entry.schedule.missed == "run_once"
            log.warning("schedule.missed", tool=entry.tool, latest_ms=missed, runs_once=makes_up)
        for at_ms in due:
            try:
                if await self._store.fire(self._task_of(entry, at_ms)):
                    log.info("schedule.fired", tool=entry.tool, at_ms=at_ms)
            except (CallerError, OperatorError) as exc:
                if self._is_new("schedule.not_fired", entry.tool, at_ms):
                    log.warning("schedule.not_fired", tool=entry.tool, at_ms=at_ms, why=str(exc))
                return False
        return True

    def _is_new(self, event: str, tool: str, at_ms: int) -> bool:
        """Whether this firing was not reported before."""
        before = self._warned.get((event, tool), 0)
        self._warned[event, tool] = max(at_ms, before)
        return at_ms > before

    def _task_of(self, entry: _Entry, at_ms: int) -> NewTask:
        policy, task_id = entry.policy, firing_id(entry.name, at_ms, self._settings.own_shard)
        return NewTask(
            id=task_id,
            tool=entry.tool,
            principal=SCHEDULE,
            payload=self._store.pack(task_id, entry.call.payload, tool=entry.tool, principal=SCHEDULE),
            queue=self._settings.qualified(policy.queue),
            retention=policy.kept_for,
            poll_interval=policy.polled_every,
            retries=policy.retries,
            deadline=policy.time_limit,
            priority=policy.priority,
            lane=entry.call.lane,
            firing=Firing(entry.name, at_ms, entry.schedule.as_json()),
            limits=PrincipalLimits(),
            webhook=self._settings.webhook_ends(policy.webhook),
            client="schedule",
        )
