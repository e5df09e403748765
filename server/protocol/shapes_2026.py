"""Task shapes of the 2026-07-28 tasks extension, made from views. Pure functions, no I/O.

Source: `ext-tasks` schema (`Task`, `DetailedTask`, `CreateTaskResult`).
"""

from datetime import UTC, datetime
from typing import Any, assert_never

from taskmill.engine.outcome import Failed, Refused, Returned
from taskmill.engine.record import TaskView
from taskmill.engine.status import Status
from taskmill.server.protocol.errors import error_of
from taskmill.server.protocol.status_text import status_text

__all__ = [
    "ATTEMPT_ERRORS",
    "EXTENSION",
    "LONGEST_TASK_ID",
    "attempt_errors",
    "create_result",
    "detailed_task",
    "input_requests",
    "iso",
    "iso_or_none",
    "wire_status",
]

EXTENSION = "io.modelcontextprotocol/tasks"
ATTEMPT_ERRORS = "io.taskmill/attemptErrors"
"""Member of `_meta`, in every revision: why attempts failed, where `TASKMILL_CALLER_ERRORS` lets callers see it."""
LONGEST_TASK_ID = 256
"""Characters; a longer id names no task, in any revision."""


def wire_status(status: Status) -> str:
    """The extension's word for a state: waiting in the queue and running are both `working`."""
    match status:
        case Status.PENDING | Status.RUNNING:
            return "working"
        case Status.INPUT_REQUIRED | Status.COMPLETED | Status.FAILED | Status.CANCELLED:
            return status.value
        case _:
            assert_never(status)


def create_result(view: TaskView) -> dict[str, Any]:
    """`CreateTaskResult`: the task itself, flat, and nothing of its state's payload."""
    return {"resultType": "task", **_task(view)}


def detailed_task(view: TaskView) -> dict[str, Any]:
    """`DetailedTask`: the task and, by its state, `inputRequests`, `result` or `error`."""
    task = _task(view)
    if errors := attempt_errors(view):
        task["_meta"] = {ATTEMPT_ERRORS: errors}
    if view.record.status is Status.INPUT_REQUIRED:
        return {**task, "inputRequests": input_requests(view)}
    match view.outcome:
        case Returned():
            return {**task, "result": view.outcome.value}
        case Refused() | Failed():
            return {**task, "error": error_of(view.outcome)}
        case None:
            return task
        case _:
            assert_never(view.outcome)


def attempt_errors(view: TaskView) -> list[dict[str, Any]]:
    """Why attempts failed, oldest first; only the last one has its traceback, which is long."""
    last = max(view.errors, default=0)
    return [
        {
            "attempt": attempt,
            "type": error.type,
            "text": error.text,
            "reference": error.reference,
            **({"traceback": error.traceback} if attempt == last and error.traceback else {}),
        }
        for attempt, error in view.errors.items()
    ]


def input_requests(view: TaskView) -> dict[str, Any]:
    """The open questions by key. A link goes without its `elicitationId`, which this revision has no more."""
    return {key: _without_id(question) for key, question in view.questions.items()}


def _without_id(question: dict[str, Any]) -> dict[str, Any]:
    params = question.get("params", {})
    if "elicitationId" not in params:
        return question
    return {**question, "params": {name: value for name, value in params.items() if name != "elicitationId"}}


def _task(view: TaskView) -> dict[str, Any]:
    record = view.record
    return {
        "taskId": record.id,
        "status": wire_status(record.status),
        "statusMessage": status_text(view),
        "createdAt": iso(record.created_ms),
        "lastUpdatedAt": iso(record.updated_ms),
        "ttlMs": record.ttl_ms,  # null = unlimited: a task cannot expire while it lives, and the value MAY change
        "pollIntervalMs": record.poll_ms,
    }


def iso(ms: int) -> str:
    """Milliseconds since 1970 as ISO 8601, in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def iso_or_none(ms: int | None) -> str | None:
    """The same of a time that there may not be."""
    return None if ms is None else iso(ms)
