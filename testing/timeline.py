"""What a watcher would have seen of a task: states and words, in order. Made from the task's history."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from taskmill.engine.events import Event
from taskmill.engine.lifecycle import apply
from taskmill.engine.record import TaskRecord, TaskView
from taskmill.server.protocol.status_text import status_text

__all__ = ["Moment", "in_order", "timeline_of"]


class Moment(NamedTuple):
    """One state and its words; equal to the plain pair."""

    status: str
    """pending, running, input_required, completed, failed or cancelled."""
    message: str
    """The line that clients show: "step 3 of 7 (42%)"."""


def timeline_of(events: Iterable[Event], last: TaskView) -> list[Moment]:
    """Every moment that differs from the one before. `last`: the task as it is now, for the words of its outcome."""
    record: TaskRecord | None = None
    moments: list[Moment] = []
    for event in events:
        record = apply(record, event)
        view = last if record.is_terminal else TaskView(record)
        moment = Moment(record.status.value, status_text(view))
        if moments[-1:] != [moment]:
            moments.append(moment)
    return moments


def in_order(seen: Sequence[tuple[str, str]], *wanted: tuple[str, str]) -> bool:
    """Whether all of `wanted` were seen, in this order, whatever came between: quick reports are coalesced."""
    rest = iter(seen)
    return all(any(moment == one for moment in rest) for one in wanted)
