"""One attempt at one task, from claim to ending, as a pipeline: load, resolve, call, judge.

It decides how the attempt ends; telling the store is `worker.py`'s.
"""

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Any, Literal

import structlog

from windlass.engine.context import Outlet, TaskContext
from windlass.engine.errors import FenceLost, QuestionMismatch, SealBroken
from windlass.engine.outcome import Broke, Fault, Outcome
from windlass.engine.policy import TaskConfig
from windlass.engine.ports import Toolbox
from windlass.engine.record import Progress
from windlass.store.claims import Claimed, ClaimStore
from windlass.workers.board import ProgressBoard
from windlass.workers.held import Held, HeldTask, Stop
from windlass.workers.questions import Questions
from windlass.workers.slots import Slots
from windlass.workers.standing import Standing

__all__ = ["Attempt", "Ending", "Finish", "Park", "Release"]

log = structlog.get_logger()
_UNKNOWN_TOOL_PAUSE = timedelta(seconds=2)
_UNWIND = 5.0
"""Seconds a stopped tool gets for its `finally` blocks before its slot is given on."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The task ends here."""

    task: Claimed
    outcome: Outcome
    seconds: float
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Release:
    """The task goes back to its queue."""

    task: Claimed
    delay: timedelta
    failures: int
    reason: str
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Park:
    """The task leaves this worker's memory until its questions are answered."""

    task: Claimed
    progress: Progress | None = None


Ending = Finish | Release | Park


class Attempt:
    """Runs one claimed task."""

    def __init__(
        self,
        claimed: Claimed,
        *,
        toolbox: Toolbox,
        store: ClaimStore,
        held: Held,
        board: ProgressBoard,
        slots: Slots,
        outlet: Outlet | None = None,
    ) -> None:
        """It has a place of `slots`, and gives it up at its end."""
        self._claimed = claimed
        self._toolbox = toolbox
        self._store = store
        self._held = held
        self._board = board
        self._outlet = outlet
        self._slots = slots
        self._standing: Standing | None = None
        self._leaving = False
        self._task = HeldTask(claimed.id, claimed.fence)
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

    async def run(self) -> Ending | None:
        """How the attempt ended; None when its word no longer counts.

        An attempt that has an ending stays held, and its lease renewed, until that is settled.
        """
        structlog.contextvars.bind_contextvars(task_id=self._claimed.id)
        ending: Ending | None = None
        try:
            ending = await self._run()
            return ending
        finally:
            if self._standing is None:
                self._slots.give()
            else:
                self._standing.end()
            if ending is None:
                self._held.remove(self._claimed.id, self._claimed.fence)
            self._board.take(self._claimed.id, self._claimed.fence)

    async def _run(self) -> Ending | None:
        try:
            payload = self._store.arguments(self._claimed)
        except (SealBroken, ValueError) as exc:
            log.error("task.unreadable", error=type(exc).__name__)
            return self._finish(Broke(Fault.UNREADABLE, "The stored arguments cannot be read by this worker."))
        policy = self._toolbox.policy(self._claimed.tool)
        if policy is None:
            log.warning("tool.unknown", tool=self._claimed.tool)
            return self._release(_UNKNOWN_TOOL_PAUSE, "unknown_tool")
        return self._judge(policy, await self._call(policy, payload))

    async def _call(self, policy: TaskConfig, payload: Mapping[str, Any]) -> Outcome | BaseException | Stop:
        """Run the tool until it ends, its time is up, or it is told to stop."""
        claimed = self._claimed
        standing = self._stand(policy)
        context = TaskContext(
            task_id=claimed.id,
            attempt=claimed.attempt,
            fence=claimed.fence,
            principal=claimed.principal,
            listen=self._listen,
            ask=Questions(self._store, self._task, standing),
            outlet=self._outlet,
        )
        self._task.context = context
        if self._task.stopped.done():
            return self._task.stopped.result()
        tool = asyncio.create_task(self._guarded(payload, context))
        waiting: list[asyncio.Future[Any]] = [tool, self._task.stopped]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if tool.done() and not (self._task.stopped.done() and isinstance(tool.result(), asyncio.CancelledError)):
            return tool.result()
        why = self._task.stopped.result()
        if why is Stop.DRAIN and standing.asks:
            why = Stop.PARK
        tool.cancel()
        await asyncio.wait({tool}, timeout=_UNWIND)
        if not tool.done():
            log.warning("tool.does_not_stop", tool=claimed.tool)
        return why

    def _stand(self, policy: TaskConfig) -> Standing:
        limit, parks = policy.run_limit, policy.parked_after
        self._standing = standing = Standing(
            self._task,
            self._slots,
            run_limit=limit.total_seconds() if limit else None,
            park_after=parks.total_seconds() if parks is not None else None,
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

    def _judge(self, policy: TaskConfig, ended: Outcome | BaseException | Stop) -> Ending | None:
        if ended is Stop.LOST or isinstance(ended, FenceLost):
            return None
        match ended:
            case Stop.DRAIN:
                return self._release(timedelta(0), "drain")
            case Stop.PARK:
                return Park(self._claimed, self._board.take(self._claimed.id, self._claimed.fence))
            case Stop.TIMEOUT:
                return self._failed(policy, ended)
            case BaseException():
                return self._failed(policy, ended)
            case _:
                return self._finish(ended)

    def _failed(self, policy: TaskConfig, crash: BaseException | Literal[Stop.TIMEOUT]) -> Ending:
        """A crash, an exit or a timeout: try again, or say so."""
        claimed = self._claimed
        reference = secrets.token_hex(4)
        if isinstance(crash, QuestionMismatch):
            return self._finish(Broke(Fault.MISMATCH, str(crash), reference))
        delay = policy.retry_delay(claimed.failures + 1)
        facts = {"tool": claimed.tool, "reference": reference, "attempt": claimed.attempt}
        if crash is Stop.TIMEOUT:
            log.warning("tool.timed_out", **facts)
        else:
            log.error("tool.crashed", exc_info=crash, **facts)
        if delay is not None:
            return self._release(delay, "retry", failures=claimed.failures + 1)
        return self._finish(self._outcome_of(policy, crash, reference))

    def _outcome_of(self, policy: TaskConfig, crash: BaseException | Literal[Stop.TIMEOUT], reference: str) -> Outcome:
        tool = self._claimed.tool
        if crash is Stop.TIMEOUT:
            limit = policy.run_limit.total_seconds() if policy.run_limit else 0
            return Broke(Fault.TIMEOUT, f"{tool} ran longer than its limit of {limit:g} s.", reference)
        if not isinstance(crash, Exception | asyncio.CancelledError):
            return Broke(Fault.EXITED, f"{tool} tried to end its process ({type(crash).__name__}).", reference)
        return self._toolbox.blame(tool, crash, reference)

    def _finish(self, outcome: Outcome) -> Finish:
        said = self._board.take(self._claimed.id, self._claimed.fence)
        return Finish(self._claimed, outcome, monotonic() - self._started, said)

    def _release(self, delay: timedelta, reason: str, *, failures: int | None = None) -> Release:
        said = self._board.take(self._claimed.id, self._claimed.fence)
        return Release(self._claimed, delay, self._claimed.failures if failures is None else failures, reason, said)
