"""One line of words for the state of a task, the same on every poll and push of every protocol."""

from datetime import UTC, datetime
from math import ceil
from time import time
from typing import assert_never

from taskmill.engine.outcome import Failed, Refused, Returned
from taskmill.engine.record import Progress, TaskRecord, TaskView
from taskmill.engine.status import Status

__all__ = ["progress_text", "status_text"]

_BACK_IN_QUEUE = {
    "unknown_tool": "waiting for a worker that has this tool",
    "drain": "its worker was stopped, queued again",
    "answered": "answered, queued again",
}
_TRIED_AGAIN = {
    "crashed": "the last one failed",
    "timed_out": "the last one timed out",
    "asked_again": "the last one asked for another",
}


def status_text(view: TaskView) -> str:
    """Words for a person: "step 3 of 7 (42%)", "queued behind 3", "waiting for an answer"."""
    record = view.record
    match record.status:
        case Status.PENDING:
            return _pending(view)
        case Status.RUNNING:
            return progress_text(record.progress) or ("running" if not record.failures else _attempt(record))
        case Status.INPUT_REQUIRED:
            return "waiting for an answer" if record.questions <= 1 else f"waiting for {record.questions} answers"
        case Status.COMPLETED:
            return _completion(record)
        case Status.FAILED:
            return _failure(view)
        case Status.CANCELLED:
            return "cancelled"
        case _:
            assert_never(record.status)


def progress_text(progress: Progress) -> str:
    """The tool's own words and the percentage; empty before its first report."""
    words = progress.message or ""
    if not words and progress.done is not None:
        words = f"{progress.done:g} of {progress.total:g}" if progress.total else f"{progress.done:g} done"
    percent = progress.percent
    return words if percent is None or not words else f"{words} ({percent}%)"


def _completion(record: TaskRecord) -> str:
    """An error of the tool's own, and a crash that was not tried again, are results that say so."""
    match record.reason:
        case "tool_error":
            return "the tool reported an error"
        case "crashed":
            return f"the tool broke at {_attempt(record)}" if record.retries else "the tool broke"
        case _:
            return "completed"


def _pending(view: TaskView) -> str:
    record = view.record
    if view.paused is not None:
        return f"{view.paused} is paused"
    if not record.attempt and (record.not_before_ms or 0) > time() * 1000:
        return _start(record.not_before_ms or 0)
    reason = record.reason or ""
    if reason in _TRIED_AGAIN:
        seconds = ceil(max(0.0, (record.due_ms or 0) / 1000 - time()))
        return f"{_attempt(record)}{f' in {seconds} s' if seconds else ', queued'}: {_TRIED_AGAIN[reason]}"
    if reason == "drain" and record.drains > 1:
        return f"its worker was stopped, for the {_ordinal(record.drains)} time, queued again"
    if reason in _BACK_IN_QUEUE:
        return _BACK_IN_QUEUE[reason]
    place = f"queued behind {view.ahead}" if view.ahead else "queued, next in line"
    if not view.is_served:
        return f"{place}; no worker serves its queue right now"
    if view.waits_for_caller:
        return f"{place}; called by a task of its own queue, which holds the slot that this one waits for"
    return place if view.wait_ms is None or not view.ahead else f"{place}, about {_roughly(view.wait_ms / 1000)}"


def _start(not_before_ms: int) -> str:
    at = datetime.fromtimestamp(not_before_ms / 1000, UTC)
    return f"starts in {_roughly(not_before_ms / 1000 - time())}, at {at:%Y-%m-%dT%H:%M:%SZ}"


def _roughly(seconds: float) -> str:
    """A duration, rounded, in words."""
    if seconds < 1:
        return "a second"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _attempt(record: TaskRecord) -> str:
    """What a person counts: neither crashes of workers nor waits for answers are attempts of the tool's."""
    return f"attempt {record.failures + 1} of {record.retries + 1}"


def _failure(view: TaskView) -> str:
    match view.outcome:
        case Refused():
            return view.outcome.message
        case Failed():
            return view.outcome.text
        case Returned() | None:
            return "failed"
        case _:
            assert_never(view.outcome)
