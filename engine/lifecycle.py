"""The pure lifecycle: how an event changes a record. No clock, no store, no I/O.

The scripts in `store/lua` do the same atomically; tests compare the two (a record is the fold of its events).
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from taskmill.engine.errors import IllegalMove
from taskmill.engine.events import FINISHING, Event
from taskmill.engine.record import Progress, TaskRecord
from taskmill.engine.status import LEGAL_MOVES, Move, Status

__all__ = ["apply", "fold"]

_FENCED_MOVES = frozenset({Move.CLAIM, Move.RECLAIM, Move.PARK, Move.CANCEL})
"""Moves after which an earlier holder's writes are refused: the fence rises."""


def fold(events: Iterable[Event]) -> TaskRecord:
    """The record that a whole history leads to.

    Raises:
        IllegalMove: the history does not start with a creation, has a gap, or contains a move the table forbids.
    """
    record: TaskRecord | None = None
    for event in events:
        record = apply(record, event)
    if record is None:
        raise IllegalMove("a task without events is not a task")
    return record


def apply(record: TaskRecord | None, event: Event) -> TaskRecord:
    """The record after `event`; `record` itself is left as it was.

    Raises:
        IllegalMove: the table forbids the move, the number does not follow, or the fence does not rise.
    """
    if record is None:
        return _created(event)
    sources, target = LEGAL_MOVES[event.move]
    if record.status not in sources:
        raise IllegalMove(f"{event.move} from {record.status}", seq=event.seq)
    if event.seq != record.seq + 1:
        raise IllegalMove(f"event {event.seq} after {record.seq}", seq=event.seq)
    if event.at_ms < record.updated_ms:
        raise IllegalMove("time ran backwards", seq=event.seq)
    fence = event.facts.get("fence", record.fence)
    if event.move in _FENCED_MOVES and fence <= record.fence:
        raise IllegalMove("the fence did not rise", seq=event.seq)
    moved = replace(record, seq=event.seq, updated_ms=event.at_ms, status=target or record.status)
    return _with_facts(moved, event)


def _created(event: Event) -> TaskRecord:
    if event.move is not Move.CREATE or event.seq != 1:
        raise IllegalMove("a history starts with event 1, create", seq=event.seq)
    return TaskRecord(
        status=Status.PENDING,
        created_ms=event.at_ms,
        updated_ms=event.at_ms,
        seq=1,
        **event.facts,
    )


def _with_facts(record: TaskRecord, event: Event) -> TaskRecord:
    facts: dict[str, Any] = dict(event.facts)
    if event.move is Move.PROGRESS:
        return replace(record, progress=Progress.of_facts(facts))
    if event.move in (Move.CLAIM, Move.RECLAIM):
        facts["due_ms"] = None
        facts["reason"] = None
        if record.started_ms is None:
            facts["started_ms"] = event.at_ms
    if event.move in (Move.RELEASE, Move.PARK):
        facts["worker"] = None
    if event.move in FINISHING:
        facts["ended_ms"] = event.at_ms
        facts["questions"] = 0
    return replace(record, **facts)
