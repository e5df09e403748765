"""The events a task's history is made of. One event per move, numbered from 1 without gaps.

Only data: how an event changes a record is in `lifecycle.py`, how it is stored in `store/`.
"""

from dataclasses import dataclass
from typing import Any

from taskmill.engine.status import Move

__all__ = ["FINISHING", "Event"]

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
