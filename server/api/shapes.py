"""The JSON of the HTTP API, made from views and events, and events as text of an event stream. No I/O.

Field names are the API's promise.
"""

import json
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, assert_never

from taskmill.engine.events import Event
from taskmill.engine.outcome import Failed, Refused, Returned
from taskmill.engine.record import TaskView
from taskmill.engine.status import LEGAL_MOVES
from taskmill.server.protocol.errors import error_of
from taskmill.server.protocol.shapes_2026 import iso, iso_or_none
from taskmill.server.protocol.status_text import status_text
from taskmill.store.formats.queue_names import author_queue

__all__ = ["EventFrames", "event_json", "summary", "task_json", "unreachable_json"]

_PRIVATE = frozenset({"id", "principal", "worker"})
"""Facts of events that tell the owner nothing about the task, or too much about the installation."""
_CACHED_FRAMES = 256


def unreachable_json(shards: Sequence[str]) -> dict[str, Any]:
    """What a list has in addition when shards do not answer: their names. Empty while all answer."""
    return {"unreachable": list(shards)} if shards else {}


def summary(view: TaskView, *, to_operator: bool = False) -> dict[str, Any]:
    """A task as lists show it. Every field is always there; None = not yet, or not known."""
    record = view.record
    ttl = record.ttl_ms
    shown = {
        "id": record.id,
        "tool": record.tool,
        "queue": author_queue(record.queue),
        "status": record.status.value,
        "outcome": record.outcome_kind,
        "status_text": status_text(view),
        "percent": record.progress.percent,
        "progress": {
            "done": record.progress.done,
            "total": record.progress.total,
            "message": record.progress.message,
        },
        "ahead": view.ahead,
        "open_questions": record.questions,
        "attempts": record.attempt,
        "failures": record.failures,
        "retries": record.retries,
        "crashes": record.crashes,
        "drains": record.drains,
        "reason": record.reason,
        "created_at": iso(record.created_ms),
        "started_at": iso_or_none(record.started_ms),
        "updated_at": iso(record.updated_ms),
        "due_at": iso_or_none(record.next_start_ms),
        "deadline_at": iso_or_none(record.deadline_ms),
        "ended_at": iso_or_none(record.ended_ms),
        "expires_at": None if ttl is None else iso(record.created_ms + ttl),
        "last_event": record.seq,
        "rerun_of": record.rerun_of,
        "rerun_as": view.rerun_as,
    }
    return (
        {**shown, "owner": record.principal, "client": record.client, "worker": record.worker} if to_operator else shown
    )


def task_json(view: TaskView, *, to_operator: bool = False) -> dict[str, Any]:
    """A task in full: the summary, and its result, its error and its open questions."""
    return {**summary(view, to_operator=to_operator), **_ending(view), "questions": dict(view.questions)}


def _ending(view: TaskView) -> dict[str, Any]:
    match view.outcome:
        case Returned():
            return {"result": view.outcome.value, "error": None}
        case Refused() | Failed():
            return {"result": None, "error": error_of(view.outcome)}
        case None:
            return {"result": None, "error": None}
        case _:
            assert_never(view.outcome)


def event_json(event: Event, *, to_operator: bool = False) -> dict[str, Any]:
    """One event: `status` is the state it led to, None where the state stayed; `facts` are what changed."""
    target = LEGAL_MOVES[event.move][1]
    facts = {name: value for name, value in event.facts.items() if to_operator or name not in _PRIVATE}
    if "queue" in facts:
        facts["queue"] = author_queue(str(facts["queue"]))
    return {
        "event": event.seq,
        "move": event.move.value,
        "status": None if target is None else target.value,
        "at": iso(event.at_ms),
        "facts": facts,
    }


class EventFrames:
    """Events of tasks as server-sent events, encoded once for all who follow the same task in this process."""

    def __init__(self) -> None:
        self._cache: OrderedDict[tuple[str, int, int, bool], bytes] = OrderedDict()

    def of(self, task_id: str, event: Event, *, to_operator: bool) -> bytes:
        """The event with its number, its move and its JSON."""
        # The time is part of the key: a store that lost its last second may have put another event in the same place.
        key = (task_id, event.seq, event.at_ms, to_operator)
        frame = self._cache.get(key)
        if frame is None:
            data = json.dumps(event_json(event, to_operator=to_operator), separators=(",", ":"))
            frame = f"id: {event.seq}\r\nevent: {event.move.value}\r\ndata: {data}\r\n\r\n".encode()
            self._cache[key] = frame
            if len(self._cache) > _CACHED_FRAMES:
                self._cache.popitem(last=False)
        return frame
