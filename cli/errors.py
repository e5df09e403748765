"""How a command fails: one line on standard error and an exit code. Nothing here decides whether something failed."""

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
    "CommandFailed",
    "Failure",
    "ServerUnreachable",
    "UsageError",
    "failure_of",
    "log_failure",
    "print_failure",
    "unwrap_group",
]

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells count it."""
UNAVAILABLE = 69
"""Exit code when Redis or a server does not answer: EX_UNAVAILABLE of sysexits.h."""
_USAGE = 2

log = structlog.get_logger()


@dataclass(frozen=True)
class Failure:
    """The report of a failure, as data: a child process sends it to the command that started it."""

    message: str
    """For people; it says what to do."""
    code: int
    """Exit code."""
    trace: str = ""
    """The traceback in the author's own module, from its first frame on; empty if there is none."""


class CommandFailed(TaskmillError):
    """A child process or a server reported a failure; `failure` is that report."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class ServerUnreachable(TaskmillError):
    """The server does not answer."""


class UsageError(TaskmillError):
    """The words of the command line do not fit together, or do not fit the server."""


def failure_of(error: TaskmillError) -> Failure:
    """The report of an error of this package."""
    match error:
        case CommandFailed():
            return error.failure
        case SettingsError() | UsageError():
            code = _USAGE
        case StoreUnavailable() | ServerUnreachable():
            code = UNAVAILABLE
        case _:
            code = 1
    return Failure(str(error), code, error.facts.get("trace", ""))


def print_failure(failure: Failure) -> None:
    """Print a failure on standard error."""
    if failure.trace:
        print(printable(failure.trace.rstrip(), lines=True), file=sys.stderr)
    print(f"taskmill: {printable(failure.message, lines=True)}", file=sys.stderr, flush=True)


def log_failure(error: BaseException) -> None:
    """Log the traceback of a failure, if the command has come so far that it has a log.

    structlog's own settings would print it on standard output, with the values of all variables: tokens, too.
    """
    if structlog.is_configured():
        log.debug("command.failed", exc_info=error)


@contextmanager
def unwrap_group() -> Iterator[None]:
    """Raise the error of this package that task groups have wrapped into an exception group.

    Raises:
        TaskmillError: the first one in the group.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        found = group.subgroup(TaskmillError)
        while isinstance(found, BaseExceptionGroup):
            first = found.exceptions[0]
            if isinstance(first, TaskmillError):
                log_failure(group)
                raise first from None
            assert isinstance(first, BaseExceptionGroup)
            found = first
        raise
