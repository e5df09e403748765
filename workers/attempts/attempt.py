"""One attempt at one task, from claim to ending, as a pipeline: resolve, load, call, judge.

What an ending means is decided in `verdict.py`; telling the store is `station.py`'s.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from time import monotonic
from typing import Any, assert_never

import structlog

from taskmill.engine.context import OutputPort, TaskContext
from taskmill.engine.errors import DecryptionFailed
from taskmill.engine.outcome import Failed, Fault, Outcome
from taskmill.engine.policy import TaskConfig
from taskmill.engine.ports import Toolbox
from taskmill.engine.record import Progress
from taskmill.store.claims.claims import Claimed, ClaimStore
from taskmill.store.claims.journal import JournalStore
from taskmill.workers.attempts.active import ActiveTask, ActiveTasks, Stop
from taskmill.workers.attempts.endings import Ended, Ending, Finish, Park, Release, decide
from taskmill.workers.attempts.journal import Journal
from taskmill.workers.attempts.limits import AttemptLimits
from taskmill.workers.attempts.progress import ProgressWriter
from taskmill.workers.attempts.questions import Questions
from taskmill.workers.attempts.slots import Slots

__all__ = ["Attempt"]

log = structlog.get_logger()
_UNKNOWN_TOOL_PAUSE = timedelta(seconds=2)
_UNWIND = 5.0
"""Seconds a stopped tool gets for its `finally` blocks before its slot is given on."""


class Attempt:
    """Runs one claimed task."""

    def __init__(
        self,
        claimed: Claimed,
        *,
        toolbox: Toolbox,
        store: ClaimStore,
        journals: JournalStore,
        held: ActiveTasks,
        board: ProgressWriter,
        slots: Slots,
        outlet: OutputPort | None = None,
    ) -> None:
        """It has a place of `slots`, and gives it up at its end."""
        self._claimed = claimed
        self._toolbox = toolbox
        self._store = store
        self._journals = journals
        self._held = held
        self._board = board
        self._outlet = outlet
        self._slots = slots
        self._standing: AttemptLimits | None = None
        self._over: Callable[[Ending | None], None] | None = None
        self._runner: asyncio.Task[None] | None = None
        self._leaving = False
        self._stopped_for: Stop | None = None
        self._task = ActiveTask(claimed.id, claimed.fence, claimed.tool, lease=held.lease)
        self._started = monotonic()
        held.add(self._task)

    def stop(self, why: Stop) -> None:
        """Tell the attempt to stop."""
        self._task.stop(why)

    def leave_memory(self) -> None:
        """The worker is leaving: park the attempt as soon as it only waits for answers."""
        self._leaving = True
        if self._standing is not None:
            self._standing.leave_memory()

    def begin(self, over: Callable[[Ending | None], None]) -> None:
        """Start it. `over` is called once, with how it ended; None when its word no longer counts.

        An attempt that has an ending stays held, and its lease renewed, until that is settled.
        """
        self._over = over
        self._runner = asyncio.create_task(self._live())

    async def run(self) -> Ending | None:
        """Start it, and return how it ended; see `begin`."""
        ending: asyncio.Future[Ending | None] = asyncio.get_running_loop().create_future()
        self.begin(ending.set_result)
        return await ending

    async def _live(self) -> None:
        structlog.contextvars.bind_contextvars(task_id=self._claimed.id)
        ending: Ending | None = None
        try:
            ending = await self._run()
        finally:
            self._end(ending)

    def _end(self, ending: Ending | None) -> None:
        """Give up what the attempt has, and say how it ended; the second time, when its tool ends at last, nothing."""
        over, self._over = self._over, None
        if over is None:
            return
        said = self._board.take(self._claimed.id, self._claimed.fence)
        if self._standing is None:
            self._slots.give()
        else:
            self._standing.end()
        self._task.interrupt = None
        self._task.tool = None  # else its exception would hold what the tool held, until a collector comes by
        if ending is None:
            self._held.remove(self._claimed.id, self._claimed.fence)
        over(self._complete(ending, said))

    async def _run(self) -> Ending | None:
        claimed = self._claimed
        policy = self._toolbox.policy(claimed.tool)
        if policy is None:
            log.warning("tool.unknown", tool=claimed.tool)
            return Release(claimed, _UNKNOWN_TOOL_PAUSE, claimed.failures, "unknown_tool")
        try:
            payload = self._store.arguments(claimed)
            ended = await self._call(policy, payload)
        except (DecryptionFailed, ValueError) as exc:
            log.error("task.unreadable", error=type(exc).__name__)
            return Finish(
                claimed, Failed(Fault.UNREADABLE, "What is stored of the task cannot be read by this worker.")
            )
        return self._judged(policy, ended)

    def _judged(self, policy: TaskConfig, ended: Ended) -> Ending | None:
        claimed = self._claimed
        left = None if claimed.time_left is None else claimed.time_left - timedelta(seconds=monotonic() - self._started)
        return decide(claimed, policy, self._toolbox, ended, left)

    async def _call(self, policy: TaskConfig, payload: Mapping[str, Any]) -> Ended:
        """Run the tool until it ends, its time is up, or it is told to stop."""
        claimed = self._claimed
        standing = self._stand(policy)
        journal = Journal(self._journals, claimed, self._task, standing)
        await journal.open()
        context = TaskContext(
            task_id=claimed.id,
            attempt=claimed.attempt,
            fence=claimed.fence,
            principal=claimed.principal,
            report=self._listen,
            ask=Questions(self._store, self._task, standing, journal),
            output=self._outlet,
            journal=journal,
        )
        self._task.context = context
        if self._task.stopped.done():
            return self._task.stopped.result()
        # The tool runs in the attempt's own asyncio task; one of its own would cost more than many a tool.
        self._task.tool = self._runner
        self._task.interrupt = partial(self._interrupt, policy, standing)
        ended = await self._guarded(payload, context)
        return self._stopped_for or ended

    def _interrupt(self, policy: TaskConfig, standing: AttemptLimits, why: Stop) -> None:
        """Cancel the tool; one that does not stop is left behind."""
        if why is Stop.DRAIN and standing.asks:
            why = Stop.PARK
        self._stopped_for = why
        if self._runner is not None:
            self._runner.cancel()
        asyncio.get_running_loop().call_later(_UNWIND, self._leave_behind, policy, why)

    def _leave_behind(self, policy: TaskConfig, why: Stop) -> None:
        if self._over is not None:
            with structlog.contextvars.bound_contextvars(task_id=self._claimed.id):
                log.warning("tool.does_not_stop", tool=self._claimed.tool)
                self._end(self._judged(policy, why))

    def _stand(self, policy: TaskConfig) -> AttemptLimits:
        limit, parks, left = policy.run_limit, policy.parked_after, self._claimed.time_left
        self._standing = standing = AttemptLimits(
            self._task,
            self._slots,
            run_limit=limit.total_seconds() if limit else None,
            park_after=parks.total_seconds() if parks is not None else None,
            time_left=left.total_seconds() if left is not None else None,
        )
        if self._leaving:
            standing.leave_memory()
        return standing

    def _listen(self, progress: Progress) -> None:
        if self._standing is not None:
            self._standing.sign()
        self._board.post(self._claimed.id, self._claimed.fence, progress)

    async def _guarded(self, payload: Mapping[str, Any], context: TaskContext) -> Outcome | BaseException:
        # A SystemExit that leaves an asyncio task ends the loop, and a tool must never end its worker.
        try:
            return await self._toolbox.run(self._claimed.tool, payload, context)
        except BaseException as exc:  # whatever a tool raises is an outcome
            return exc
        finally:
            context.end()

    def _complete(self, ending: Ending | None, said: Progress | None) -> Ending | None:
        """The ending with what only the attempt knows: how long it took, what its tool said last."""
        match ending:
            case Finish():
                seconds = monotonic() - self._started
                return Finish(ending.task, ending.outcome, ending.reason, seconds, said)
            case Release() | Park():
                return replace(ending, progress=said)
            case None:
                return None
            case _:
                assert_never(ending)
