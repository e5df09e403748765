"""How an attempt ends, as its worker will tell the store, and who decides it: an outcome, another attempt, or parking.

Nothing here talks to the store: `runtime.py` makes the calls.
"""

import asyncio
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog

from taskmill.engine.errors import (
    AuthorError,
    FenceLost,
    MemoryExceeded,
    NotSerializable,
    ProcessDied,
    RecordMismatch,
    StepMisused,
    TooLargeToStore,
)
from taskmill.engine.outcome import Failed, Fault, Outcome
from taskmill.engine.policy import TaskConfig
from taskmill.engine.ports import Toolbox
from taskmill.engine.record import Progress
from taskmill.engine.retrying import Retry
from taskmill.store.claims.claims import Claimed
from taskmill.workers.attempts.active import Stop

__all__ = ["Ended", "Ending", "Finish", "Park", "Release", "decide"]

log = structlog.get_logger()
_AUTHORS: dict[type[AuthorError], Fault] = {
    RecordMismatch: Fault.MISMATCH,
    StepMisused: Fault.MISMATCH,
    NotSerializable: Fault.NOT_JSON,
    TooLargeToStore: Fault.TOO_LARGE,
}
"""Errors that another attempt would only repeat. Their text is ours, and says what to do."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The task ends here."""

    task: Claimed
    outcome: Outcome
    reason: str | None = None
    """Why there is no success, None = what the outcome says."""
    seconds: float = 0.0
    progress: Progress | None = None
    """What the tool said last, if that is not surely written."""


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


class TimedOut(TimeoutError):
    """The attempt has run as long as its policy allows."""


Ended = Outcome | BaseException | Stop
"""How a tool's run ended: by itself, by what it raised, or because it was told to stop."""


def decide(
    claimed: Claimed, policy: TaskConfig, toolbox: Toolbox, ended: Ended, left: timedelta | None = None
) -> Ending | None:
    """The ending of the attempt; None when its word no longer counts. `left`: until the task must have ended."""
    if isinstance(ended, BaseException):
        ended = _cause(ended)
    match ended:
        case Stop.LOST | FenceLost():
            return None
        case Stop.DRAIN:
            return Release(claimed, timedelta(0), claimed.failures, "drain")
        case Stop.PARK:
            return Park(claimed)
        case Stop.DEADLINE:
            limit = policy.time_limit.total_seconds() if policy.time_limit else 0
            return Finish(
                claimed, Failed(Fault.DEADLINE, f"{claimed.tool} had not ended at its deadline, {limit:g} s.")
            )
        case Stop.TIMEOUT:
            return _failed(claimed, policy, toolbox, TimedOut(), left)
        case BaseException():
            return _failed(claimed, policy, toolbox, ended, left)
        case _:
            return Finish(claimed, ended)


def _failed(
    claimed: Claimed, policy: TaskConfig, toolbox: Toolbox, crash: BaseException, left: timedelta | None
) -> Ending:
    """A crash, an exit or a timeout: try again, or say so."""
    reference = secrets.token_hex(4)
    facts = {"tool": claimed.tool, "reference": reference, "attempt": claimed.attempt}
    fault = next((_AUTHORS[kind] for kind in type(crash).__mro__ if kind in _AUTHORS), None)
    if fault is not None:
        log.error("tool.record_refused", fault=fault.value, detail=str(crash), **facts)
        return Finish(claimed, Failed(fault, str(crash), reference))
    reason = _tell(crash, facts)
    delay = _delay(policy, claimed.failures + 1, crash)
    if delay is not None and (left is None or delay < left):
        return Release(claimed, delay, claimed.failures + 1, reason)
    return _given_up(claimed, policy, toolbox, crash, reference)


def _tell(crash: BaseException, facts: dict[str, Any]) -> str:
    """Log the failure; the word for it."""
    if isinstance(crash, TimedOut):
        log.warning("tool.timed_out", **facts)
        return "timed_out"
    if isinstance(crash, Retry):
        log.warning("tool.asked_again", detail=str(crash), **facts)
        return "asked_again"
    log.error("tool.crashed", exc_info=crash, **facts)
    return "crashed"


def _delay(policy: TaskConfig, failures: int, crash: BaseException) -> timedelta | None:
    try:
        return policy.retry_delay(failures, crash)
    except Exception as exc:
        log.error("policy.crashed", error=type(exc).__name__, exc_info=exc)
        return None


def _given_up(claimed: Claimed, policy: TaskConfig, toolbox: Toolbox, crash: BaseException, reference: str) -> Finish:
    tool = claimed.tool
    if isinstance(crash, TimedOut):
        limit = policy.run_limit.total_seconds() if policy.run_limit else 0
        return Finish(claimed, Failed(Fault.TIMEOUT, f"{tool} ran longer than its limit of {limit:g} s.", reference))
    if isinstance(crash, ProcessDied):
        fault = Fault.MEMORY if isinstance(crash, MemoryExceeded) else Fault.DIED
        return Finish(claimed, Failed(fault, str(crash), reference))
    if not isinstance(crash, Exception | asyncio.CancelledError):
        text = f"{tool} tried to end its process ({type(crash).__name__})."
        return Finish(claimed, Failed(Fault.EXITED, text, reference))
    return Finish(claimed, toolbox.failure_outcome(tool, crash, reference), "crashed")


def _cause(ended: BaseException) -> BaseException:
    """What an error is about: of a group of branches, the fault of the author's that ended it, if there is one."""
    if isinstance(ended, BaseExceptionGroup):
        fatal: BaseException | None = ended.subgroup((*_AUTHORS, FenceLost))
        while isinstance(fatal, BaseExceptionGroup):
            fatal = fatal.exceptions[0]
        return fatal or ended
    return ended
