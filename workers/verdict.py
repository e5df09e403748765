"""What the end of a tool's run means for its task: an outcome, another attempt, a wait for answers."""

import asyncio
import secrets
from datetime import timedelta
from typing import Literal

import structlog

from windlass.engine.errors import AuthorError, FenceLost, NotKeepable, RecordMismatch, StepMisused, TooLargeToKeep
from windlass.engine.outcome import Broke, Fault, Outcome
from windlass.engine.policy import TaskConfig
from windlass.engine.ports import Toolbox
from windlass.store.claims import Claimed
from windlass.workers.ending import Ending, Finish, Park, Release
from windlass.workers.held import Stop

__all__ = ["Ended", "judge"]

log = structlog.get_logger()
_AUTHORS: dict[type[AuthorError], Fault] = {
    RecordMismatch: Fault.MISMATCH,
    StepMisused: Fault.MISMATCH,
    NotKeepable: Fault.NOT_JSON,
    TooLargeToKeep: Fault.TOO_LARGE,
}
"""Errors that another attempt would only repeat. Their text is ours, and says what to do."""

Ended = Outcome | BaseException | Stop
"""How a tool's run ended: by itself, by what it raised, or because it was told to stop."""


def judge(claimed: Claimed, policy: TaskConfig, toolbox: Toolbox, ended: Ended) -> Ending | None:
    """The ending of the attempt; None when its word no longer counts."""
    if isinstance(ended, BaseException):
        ended = _cause(ended)
    match ended:
        case Stop.LOST | FenceLost():
            return None
        case Stop.DRAIN:
            return Release(claimed, timedelta(0), claimed.failures, "drain")
        case Stop.PARK:
            return Park(claimed)
        case Stop.TIMEOUT | BaseException():
            return _failed(claimed, policy, toolbox, ended)
        case _:
            return Finish(claimed, ended)


def _failed(
    claimed: Claimed, policy: TaskConfig, toolbox: Toolbox, crash: BaseException | Literal[Stop.TIMEOUT]
) -> Ending:
    """A crash, an exit or a timeout: try again, or say so."""
    reference = secrets.token_hex(4)
    facts = {"tool": claimed.tool, "reference": reference, "attempt": claimed.attempt}
    if isinstance(crash, AuthorError):
        fault = next((_AUTHORS[kind] for kind in type(crash).__mro__ if kind in _AUTHORS), None)
        if fault is not None:
            log.error("tool.record_refused", fault=fault.value, detail=str(crash), **facts)
            return Finish(claimed, Broke(fault, str(crash), reference))
    if crash is Stop.TIMEOUT:
        log.warning("tool.timed_out", **facts)
    else:
        log.error("tool.crashed", exc_info=crash, **facts)
    delay = policy.retry_delay(claimed.failures + 1)
    if delay is not None:
        return Release(claimed, delay, claimed.failures + 1, "retry")
    return Finish(claimed, _outcome_of(claimed, policy, toolbox, crash, reference))


def _outcome_of(
    claimed: Claimed,
    policy: TaskConfig,
    toolbox: Toolbox,
    crash: BaseException | Literal[Stop.TIMEOUT],
    reference: str,
) -> Outcome:
    tool = claimed.tool
    if crash is Stop.TIMEOUT:
        limit = policy.run_limit.total_seconds() if policy.run_limit else 0
        return Broke(Fault.TIMEOUT, f"{tool} ran longer than its limit of {limit:g} s.", reference)
    if not isinstance(crash, Exception | asyncio.CancelledError):
        return Broke(Fault.EXITED, f"{tool} tried to end its process ({type(crash).__name__}).", reference)
    return toolbox.blame(tool, crash, reference)


def _cause(ended: BaseException) -> BaseException:
    """What an error is about: of a group of branches, the fault of the author's that ended it, if there is one."""
    if isinstance(ended, BaseExceptionGroup):
        fatal: BaseException | None = ended.subgroup((*_AUTHORS, FenceLost))
        while isinstance(fatal, BaseExceptionGroup):
            fatal = fatal.exceptions[0]
        return fatal or ended
    return ended
