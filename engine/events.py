"""The events a task's history is made of - one per move, numbered from 1 without gaps - and the errors of its attempts.

Only data: how an event changes a record is in `lifecycle.py`, how it is stored in `store/`.
"""

from dataclasses import dataclass
from typing import Any

from taskmill.engine.status import Move

__all__ = ["FINISHING", "AttemptError", "Event", "LogMessage", "RemoteTrace"]

FINISHING = frozenset({Move.COMPLETE, Move.FAIL, Move.OVERDUE, Move.CANCEL})
"""Moves after which a task's history ends."""


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a task's history."""

    seq: int
    """1 for the first event of the task."""
    move: Move
    at_ms: int
    """The store's clock, milliseconds since 1970."""
    facts: dict[str, Any]
    """What changed, by the record's own field names."""


@dataclass(frozen=True, slots=True)
class AttemptError:
    """Why one attempt failed, for operators: the text may hold whatever the tool worked with."""

    type: str
    """Class of the exception, with its module unless it is a builtin."""
    text: str
    traceback: str = ""
    """With the causes; without values of variables. Empty where no exception ended the attempt."""
    reference: str = ""
    """Of the entry in the worker's log."""
    worker: str = ""
    host: str = ""
    pid: int = 0
    started_ms: int = 0
    """The worker's clock, milliseconds since 1970."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class LogMessage:
    """What a tool logs for its caller: sent to those who follow the task at the moment, and kept nowhere."""

    level: str
    """Of the protocol: `debug`, `info`, ..., `emergency`."""
    data: Any
    """JSON."""
    logger: str | None = None
    """Name of what logged it, None = it has none."""


class RemoteTrace(Exception):
    """The cause of an exception that was raised in another process: what it was there."""

    def __init__(self, kind: str, text: str, trace: str) -> None:
        """`kind`: its class; `trace`: its traceback."""
        super().__init__(f"in the tool's own process:\n{trace}")
        self.kind = kind
        self.text = text
        self.trace = trace
