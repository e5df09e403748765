"""One attempt at one task, from claim to ending, as a pipeline: find the policy, load the arguments, call, decide.

`endings.py` decides which ending it is; `workers/runtime.py` sends it to the store.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from time import monotonic, time
from typing import Any, assert_never

import structlog

from taskmill.engine.context import ListChangePort, OutputPort, TaskContext
from taskmill.engine.errors import DecryptionFailed, FenceLost
from taskmill.engine.events import AttemptError
from taskmill.engine.outcome import Outcome
from taskmill.engine.policy import TaskConfig
from taskmill.engine.ports import Toolbox
from taskmill.engine.principal import ANONYMOUS, LOCAL
from taskmill.engine.record import Progress
from taskmill.store.claims.claims import Claimed, ClaimStore
from taskmill.store.claims.journal import JournalStore
from taskmill.store.sessions.caller_state import CallerStateStore
from taskmill.workers.attempts.active import ActiveTask, ActiveTasks, Stop
from taskmill.workers.attempts.endings import Ended, Ending, Finish, Park, Release, decide
from taskmill.workers.attempts.journal import Journal
from taskmill.workers.attempts.limits import AttemptLimits
from taskmill.workers.attempts.log_messages import LogWriter
from taskmill.workers.attempts.progress import ProgressWriter
from taskmill.workers.attempts.questions import Questions
from taskmill.workers.attempts.slots import Slots

__all__ = ["Attempt"]

log = structlog.get_logger()
_UNKNOWN_TOOL_PAUSE = timedelta(seconds=2)
_UNWIND = 5.0
"""Seconds a stopped tool gets for its `finally` blocks before its slot is released."""


class Attempt:
    """Runs one claimed task."""

    def __init__(
        self,
        claimed: Claimed,
        *,
        toolbox: Toolbox,
        store: ClaimStore,
        journals: JournalStore,
        active: ActiveTasks,
        progress: ProgressWriter,
        logs: LogWriter,
        slots: Slots,
        output: OutputPort | None = None,
        caller_states: CallerStateStore | None = None,
        tool_timeout: float = 0.0,
        on_asked: Callable[[str, int], None] | None = None,
        list_changes: ListChangePort | None = None,
    ) -> None:
        """It has taken one of the `slots`, and releases it at its end.

        `tool_timeout`: seconds that a tool without a timeout of its own may run, 0 = no limit. `on_asked`: called with
        the tool, and how many questions it asks.
        """
        self._claimed = claimed
        self._toolbox = toolbox
        self._store = store
        self._journals = journals
        self._active = active
        self._progress = progress
        self._logs = logs
        self._output = output
        self._caller_states = caller_states
        self._tool_timeout = tool_timeout
        self._on_asked = on_asked
        self._list_changes = list_changes
        self._slots = slots
        self._limits: AttemptLimits | None = None
        self._on_end: Callable[[Ending | None], None] | None = None
        self._runner: asyncio.Task[None] | None = None
        self._leaving = False
        self._stopped_for: Stop | None = None
        self._task = ActiveTask(claimed.id, claimed.fence, claimed.tool, lease=active.lease)
        self._started = monotonic()
        active.add(self._task)

    @property
    def holder(self) -> str | None:
        """The principal whose task has a slot; None if it has none now, or no one to share the slots with."""
        has_slot = self._limits is None or self._limits.has_slot
        return self._claimed.principal if has_slot and self._claimed.principal not in (ANONYMOUS, LOCAL) else None

    def stop(self, why: Stop) -> None:
        """Tell the attempt to stop."""
        self._task.stop(why)

    def park_without_delay(self) -> None:
        """The worker is leaving: park the attempt as soon as it only waits for answers."""
        self._leaving = True
        if self._limits is not None:
            self._limits.park_without_delay()

    def begin(self, on_end: Callable[[Ending | None], None]) -> None:
        """Start it. `on_end` is called once with how it ended; None when it may no longer write.

        A task whose attempt has an ending stays active, and its lease is renewed, until the ending is settled.
        """
        self._on_end = on_end
        self._runner = asyncio.create_task(self._run_to_end())

    async def run(self) -> Ending | None:
        """Start it; returns how it ended, see `begin`."""
        ending: asyncio.Future[Ending | None] = asyncio.get_running_loop().create_future()
        self.begin(ending.set_result)
        return await ending

    async def _run_to_end(self) -> None:
        structlog.contextvars.bind_contextvars(task_id=self._claimed.id)
        ending: Ending | None = None
        try:
            ending = await self._run()
        finally:
            self._end(ending)

    def _end(self, ending: Ending | None) -> None:
        """Release what the attempt has and report its ending. A second call, after an abandoned tool, does nothing."""
        on_end, self._on_end = self._on_end, None
        if on_end is None:
            return
        last = self._progress.take_last(self._claimed.id, self._claimed.fence)
        if self._limits is None:
            self._slots.release()
        else:
            self._limits.close()
        self._task.interrupt = None
        self._task.main_task = None  # its exception would keep what the tool used alive until a garbage collection
        if ending is None:
            self._logs.take_last(self._claimed.id, self._claimed.fence)
            self._active.remove(self._claimed.id, self._claimed.fence)
        on_end(self._completed(ending, last))

    async def _run(self) -> Ending | None:
        claimed = self._claimed
        policy = self._toolbox.policy(claimed.tool)
        if policy is None:
            log.warning("tool.unknown", tool=claimed.tool)
            return Release(claimed, _UNKNOWN_TOOL_PAUSE, claimed.failures, "unknown_tool")
        policy = policy.timed_by(self._tool_timeout)
        try:
            payload = self._store.arguments(claimed)
            ended = await self._call(policy, payload)
        except FenceLost as exc:
            ended = exc
        except (DecryptionFailed, ValueError) as exc:
            ended = exc if isinstance(exc, DecryptionFailed) else DecryptionFailed(str(exc), task_id=claimed.id)
        return self._decide(policy, ended)

    def _decide(self, policy: TaskConfig, ended: Ended) -> Ending | None:
        claimed = self._claimed
        left = None if claimed.time_left is None else claimed.time_left - timedelta(seconds=monotonic() - self._started)
        return decide(claimed, policy, self._toolbox, ended, left)

    async def _call(self, policy: TaskConfig, payload: Mapping[str, Any]) -> Ended:
        """Run the tool until it ends, or is stopped."""
        claimed = self._claimed
        limits = self._set_limits(policy)
        journal = Journal(self._journals, claimed, self._task, limits)
        states = self._caller_states
        await journal.open()
        context = TaskContext(
            task_id=claimed.id,
            attempt=claimed.attempt,
            fence=claimed.fence,
            principal=claimed.principal,
            report=self._report_progress,
            ask=Questions(self._store, self._task, limits, journal, self._on_asked),
            output=self._output,
            journal=journal,
            caller_state=states.of(claimed.principal, payload.get("session")) if states else None,
            log=partial(self._logs.report, claimed.id, claimed.fence),
            list_changes=self._list_changes,
        )
        self._task.context = context
        if self._task.stopped.done():
            return self._task.stopped.result()
        # The tool runs in the attempt's own asyncio task: another one would cost more than many tools do.
        self._task.main_task = self._runner
        self._task.interrupt = partial(self._interrupt, policy, limits)
        ended = await self._run_tool(payload, context)
        return self._stopped_for or ended

    def _interrupt(self, policy: TaskConfig, limits: AttemptLimits, why: Stop) -> None:
        """Cancel the tool; one that does not stop is abandoned."""
        if why is Stop.DRAIN and limits.has_question:
            why = Stop.PARK
        self._stopped_for = why
        if self._runner is not None:
            self._runner.cancel()
        asyncio.get_running_loop().call_later(_UNWIND, self._abandon, policy, why)

    def _abandon(self, policy: TaskConfig, why: Stop) -> None:
        if self._on_end is not None:
            with structlog.contextvars.bound_contextvars(task_id=self._claimed.id):
                log.warning("tool.does_not_stop", tool=self._claimed.tool)
                self._end(self._decide(policy, why))

    def _set_limits(self, policy: TaskConfig) -> AttemptLimits:
        run_limit, park_after, left = policy.run_limit, policy.parked_after, self._claimed.time_left
        self._limits = limits = AttemptLimits(
            self._task,
            self._slots,
            run_limit=run_limit.total_seconds() if run_limit else None,
            park_after=park_after.total_seconds() if park_after is not None else None,
            time_left=left.total_seconds() if left is not None else None,
        )
        if self._leaving:
            limits.park_without_delay()
        return limits

    def _report_progress(self, progress: Progress) -> None:
        if self._limits is not None:
            self._limits.note_activity()
        self._progress.report(self._claimed.id, self._claimed.fence, progress)

    async def _run_tool(self, payload: Mapping[str, Any], context: TaskContext) -> Outcome | BaseException:
        # A SystemExit that leaves an asyncio task ends the event loop, and a tool must never end its worker.
        try:
            return await self._toolbox.run(self._claimed.tool, payload, context)
        except BaseException as exc:  # whatever a tool raises is an outcome
            return exc
        finally:
            context.end()

    def _completed(self, ending: Ending | None, last: Progress | None) -> Ending | None:
        """The ending with what only the attempt knows: how long it took, the last progress."""
        seconds = monotonic() - self._started
        match ending:
            case Finish():
                return Finish(ending.task, ending.outcome, ending.reason, seconds, last, _timed(ending.error, seconds))
            case Release():
                return replace(ending, progress=last, error=_timed(ending.error, seconds))
            case Park():
                return replace(ending, progress=last)
            case None:
                return None
            case _:
                assert_never(ending)


def _timed(error: AttemptError | None, seconds: float) -> AttemptError | None:
    """The error with when the attempt started and how long it took."""
    if error is None:
        return None
    return replace(error, started_ms=int((time() - seconds) * 1000), seconds=round(seconds, 3))
