"""The states and messages of a task, in order, as a client that watches sees them. Made from the task's history."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from taskmill.engine.events import Event
from taskmill.engine.lifecycle import apply
from taskmill.engine.record import TaskRecord, TaskView
from taskmill.server.protocol.status_text import status_text

__all__ = ["StatusUpdate", "in_order", "timeline_of"]


class StatusUpdate(NamedTuple):
    """One state and its message; equal to the plain pair."""

    status: str
    """pending, running, input_required, completed, failed or cancelled."""
    message: str
    """The text that clients show: "step 3 of 7 (42%)"."""


def timeline_of(events: Iterable[Event], last: TaskView) -> list[StatusUpdate]:
    """Every update that differs from the one before. `last`: the task as it is now, for the message of its outcome."""
    record: TaskRecord | None = None
    updates: list[StatusUpdate] = []
    for event in events:
        record = apply(record, event)
        view = last if record.is_terminal else TaskView(record)
        update = StatusUpdate(record.status.value, status_text(view))
        if updates[-1:] != [update]:
            updates.append(update)
    return updates


def in_order(seen: Sequence[tuple[str, str]], *wanted: tuple[str, str]) -> bool:
    """Whether all of `wanted` were seen in this order. Others may be between them: quick reports are coalesced."""
    rest = iter(seen)
    return all(any(update == one for update in rest) for one in wanted)
