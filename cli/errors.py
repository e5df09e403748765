"""How a command ends badly: one line on standard error and an exit code. Nothing here decides that something failed."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from taskmill.cli.terminal.escaping import printable
from taskmill.engine.errors import SettingsError, StoreUnavailable, TaskmillError

__all__ = [
    "INTERRUPTED",
    "UNAVAILABLE",
    "Failure",
    "Reported",
    "Unanswered",
    "UsageFault",
    "failure_of",
    "only_cause",
    "show",
]

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells count it."""
UNAVAILABLE = 69
"""Exit code when Redis or a server does not answer: EX_UNAVAILABLE of sysexits.h."""
_USAGE = 2

log = structlog.get_logger()


@dataclass(frozen=True)
class Failure:
    """What is said about a failure, as data: it travels from a child process to the command that started it."""

    message: str
    """For people; says what to do."""
    code: int
    """Exit code."""
    trace: str = ""
    """The traceback of the author's own module, from its first frame on; empty otherwise."""


class Reported(TaskmillError):
    """A process that this command started could not do its part."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Unanswered(TaskmillError):
    """Nobody answers."""


class UsageFault(TaskmillError):
    """The command line does not fit what is there."""


def failure_of(error: TaskmillError) -> Failure:
    """What to say about an error of ours."""
    match error:
        case Reported():
            return error.failure
        case SettingsError() | UsageFault():
            code = _USAGE
        case StoreUnavailable() | Unanswered():
            code = UNAVAILABLE
        case _:
            code = 1
    return Failure(str(error), code, error.facts.get("trace", ""))


def show(failure: Failure) -> None:
    """Print a failure on standard error."""
    if failure.trace:
        print(printable(failure.trace.rstrip(), lines=True), file=sys.stderr)
    print(f"taskmill: {printable(failure.message, lines=True)}", file=sys.stderr, flush=True)


@contextmanager
def only_cause() -> Iterator[None]:
    """Takes one error of ours out of the groups that task groups wrap around it.

    Raises:
        TaskmillError: the first one in the group.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        ours = group.subgroup(TaskmillError)
        while isinstance(ours, BaseExceptionGroup):
            first = ours.exceptions[0]
            if isinstance(first, TaskmillError):
                log.debug("command.failed", exc_info=group)
                raise first from None
            assert isinstance(first, BaseExceptionGroup)
            ours = first
        raise
