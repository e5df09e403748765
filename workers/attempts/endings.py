"""How an attempt ends - an outcome, another attempt, or parking - and the decision between them.

Nothing here talks to the store: `runtime.py` makes the calls.
"""

import asyncio
import secrets
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, assert_never

import structlog

from taskmill.engine.errors import (
    AuthorError,
    DecryptionFailed,
    FenceLost,
    MemoryExceeded,
    NotSerializable,
    ProcessDied,
    RecordMismatch,
    SealKeyMissing,
    StepMisused,
    TooLargeToStore,
)
from taskmill.engine.events import AttemptError
from taskmill.engine.outcome import Failed, Fault, Outcome, Refused, Returned
from taskmill.engine.policy import TaskConfig
from taskmill.engine.ports import Toolbox
from taskmill.engine.record import Progress
from taskmill.engine.retrying import Retry
from taskmill.store.claims.claims import Claimed
from taskmill.workers.attempts.active import Stop
from taskmill.workers.attempts.errors import describe

__all__ = ["Ended", "Ending", "Finish", "Park", "Release", "decide", "kind_of", "without_room"]

log = structlog.get_logger()
_AUTHOR_FAULTS: dict[type[AuthorError], Fault] = {
    RecordMismatch: Fault.MISMATCH,
    StepMisused: Fault.MISMATCH,
    NotSerializable: Fault.NOT_JSON,
    TooLargeToStore: Fault.TOO_LARGE,
}
"""Errors that another attempt would only repeat. Their text is Taskmill's own, and says what to do."""
_KEYLESS_ATTEMPTS = 12
_KEYLESS_PAUSE = timedelta(seconds=5)
"""For a minute a task whose key a worker lacks is offered to others: keys may be on their way to all of them."""

_REFUSALS = 30
"""How often a result that finds no room in the store is sent, once a second."""


@dataclass(frozen=True, slots=True)
class Finish:
    """The task ends here."""

    task: Claimed
    outcome: Outcome
    reason: str | None = None
    """Why there is no success; None = as the outcome says."""
    seconds: float = 0.0
    progress: Progress | None = None
    """The last progress, unless it is surely written."""
    error: AttemptError | None = None
    """Why the attempt failed, if it did; for operators."""
    refusals: int = 0
    """How often the store had no room for it."""


@dataclass(frozen=True, slots=True)
class Release:
    """The task goes back to its queue."""

    task: Claimed
    delay: timedelta
    failures: int
    reason: str
    progress: Progress | None = None
    error: AttemptError | None = None
    """Why the attempt failed, if it did; for operators."""


@dataclass(frozen=True, slots=True)
class Park:
    """The task leaves this worker's memory until its questions are answered."""

    task: Claimed
    progress: Progress | None = None


Ending = Finish | Release | Park


class TimedOut(TimeoutError):
    """The attempt has run as long as its policy allows."""


Ended = Outcome | BaseException | Stop
"""How a tool's run ended: it returned, it raised, or it was stopped."""


def decide(
    claimed: Claimed, policy: TaskConfig, toolbox: Toolbox, ended: Ended, left: timedelta | None = None
) -> Ending | None:
    """The ending of the attempt; None when it may no longer write. `left`: until the task must have ended."""
    if isinstance(ended, BaseException):
        ended = _cause(ended)
    match ended:
        case Returned() | Refused() | Failed():  # first: to compare a result with each reason to stop costs more
            return Finish(claimed, ended)
        case Stop.LOST | FenceLost():
            return None
        case Stop.DRAIN:
            return Release(claimed, timedelta(0), claimed.failures, "drain")
        case Stop.PARK:
            return Park(claimed)
        case Stop.DEADLINE:
            limit = policy.time_limit.total_seconds() if policy.time_limit else 0
            text = f"{claimed.tool} had not ended at its deadline, {limit:g} s."
            return Finish(claimed, Failed(Fault.DEADLINE, text), error=AttemptError("TimeoutError", text))
        case Stop.TIMEOUT:
            return _failed(claimed, policy, toolbox, TimedOut(), left)
        case DecryptionFailed():
            return _unreadable(claimed, ended, left)
        case BaseException():
            return _failed(claimed, policy, toolbox, ended, left)
        case _:
            assert_never(ended)


def _unreadable(claimed: Claimed, error: DecryptionFailed, left: timedelta | None) -> Ending:
    """What is stored of the task cannot be read: it was changed, or another worker may have the key."""
    log.error("task.unreadable", error=type(error).__name__, attempt=claimed.attempt)
    is_missing = isinstance(error, SealKeyMissing) and claimed.attempt <= _KEYLESS_ATTEMPTS
    if is_missing and (left is None or left > _KEYLESS_PAUSE):
        return Release(claimed, _KEYLESS_PAUSE, claimed.failures, "seal_key_missing")
    outcome = Failed(Fault.UNREADABLE, "What is stored of the task cannot be read by this worker.")
    return Finish(claimed, outcome, error=describe(error))


def _failed(
    claimed: Claimed, policy: TaskConfig, toolbox: Toolbox, error: BaseException, left: timedelta | None
) -> Ending:
    """An error, an exit or a timeout: another attempt, or the task has failed."""
    reference = secrets.token_hex(4)
    facts = {"tool": claimed.tool, "reference": reference, "attempt": claimed.attempt}
    fault = next((_AUTHOR_FAULTS[kind] for kind in type(error).__mro__ if kind in _AUTHOR_FAULTS), None)
    if fault is not None:
        log.error("tool.record_refused", fault=fault.value, detail=str(error), **facts)
        return Finish(claimed, Failed(fault, str(error), reference), error=describe(error, reference))
    reason = _log_failure(error, facts)
    described = _described(claimed, policy, error, reference)
    delay = _delay(policy, claimed.failures + 1, error)
    if delay is not None and (left is None or delay < left):
        return Release(claimed, delay, claimed.failures + 1, reason, error=described)
    return replace(_final_failure(claimed, policy, toolbox, error, reference), error=described)


def _log_failure(error: BaseException, facts: dict[str, Any]) -> str:
    """Log the failure; returns the reason to store."""
    if isinstance(error, TimedOut):
        log.warning("tool.timed_out", **facts)
        return "timed_out"
    if isinstance(error, Retry):
        log.warning("tool.asked_again", detail=str(error), **facts)
        return "asked_again"
    log.error("tool.crashed", exc_info=error, **facts)
    return "crashed"


def _delay(policy: TaskConfig, failures: int, error: BaseException) -> timedelta | None:
    try:
        return policy.retry_delay(failures, error)
    except Exception as exc:
        log.error("policy.crashed", error=type(exc).__name__, exc_info=exc)
        return None


def _final_failure(
    claimed: Claimed, policy: TaskConfig, toolbox: Toolbox, error: BaseException, reference: str
) -> Finish:
    tool = claimed.tool
    if isinstance(error, TimedOut):
        return Finish(claimed, Failed(Fault.TIMEOUT, _time_limit(tool, policy), reference))
    if isinstance(error, ProcessDied):
        fault = Fault.MEMORY if isinstance(error, MemoryExceeded) else Fault.DIED
        return Finish(claimed, Failed(fault, str(error), reference))
    if not isinstance(error, Exception | asyncio.CancelledError):
        text = f"{tool} tried to end its process ({type(error).__name__})."
        return Finish(claimed, Failed(Fault.EXITED, text, reference))
    return Finish(claimed, toolbox.failure_outcome(tool, error, reference), "crashed")


def _described(claimed: Claimed, policy: TaskConfig, error: BaseException, reference: str) -> AttemptError:
    if isinstance(error, TimedOut):
        return AttemptError("TimeoutError", _time_limit(claimed.tool, policy), reference=reference)
    return describe(error, reference)


def _time_limit(tool: str, policy: TaskConfig) -> str:
    limit = policy.run_limit.total_seconds() if policy.run_limit else 0
    return f"{tool} ran longer than its limit of {limit:g} s."


def _cause(ended: BaseException) -> BaseException:
    """The error that counts: of an exception group, the author's fault that ended its branches, if there is one."""
    if isinstance(ended, BaseExceptionGroup):
        fatal: BaseException | None = ended.subgroup((*_AUTHOR_FAULTS, DecryptionFailed, FenceLost))
        while isinstance(fatal, BaseExceptionGroup):
            fatal = fatal.exceptions[0]
        return fatal or ended
    return ended


def kind_of(ending: Finish) -> str:
    """How a task ended, in one word for logs and counts."""
    if ending.reason == "crashed":
        return "crashed"
    match ending.outcome:
        case Returned():
            return "tool_error" if ending.outcome.is_error else "completed"
        case Refused():
            return "refused"
        case Failed():
            return ending.outcome.fault.value
        case _:
            assert_never(ending.outcome)


def without_room(ending: Finish, *, is_last: bool = False) -> Finish:
    """What to send in the place of an ending whose result found no room in the store: the same for a while, then a
    failure that says so. `is_last`: there is no time to wait for room.
    """
    refusals = ending.refusals + 1
    if refusals < _REFUSALS and not is_last:
        return replace(ending, refusals=refusals)
    text = "The task store was full, and had no room for the tool's result. Call the tool again later."
    return replace(ending, outcome=Failed(Fault.TOO_LARGE, text), reason=None, refusals=refusals)
