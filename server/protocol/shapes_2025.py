"""Task shapes of protocol revision 2025-11-25, made from views. Pure functions, no I/O.

Source: tasks 2025-11-25, "Data Types".
"""

from typing import Any

from taskmill.engine.outcome import Returned
from taskmill.engine.record import TaskView
from taskmill.engine.status import Status
from taskmill.server.protocol.shapes_2026 import ATTEMPT_ERRORS, attempt_errors, iso, wire_status
from taskmill.server.protocol.status_text import status_text

__all__ = ["IMMEDIATE_RESPONSE", "RELATED_TASK", "created", "related_task", "task_of"]

IMMEDIATE_RESPONSE = "io.modelcontextprotocol/model-immediate-response"
RELATED_TASK = "io.modelcontextprotocol/related-task"


def task_of(view: TaskView) -> dict[str, Any]:
    """`Task`: here a tool's own error makes the task `failed` ("Task Execution Errors")."""
    record = view.record
    errors = attempt_errors(view)
    return {
        **({"_meta": {ATTEMPT_ERRORS: errors}} if errors else {}),
        "taskId": record.id,
        "status": "failed" if _reports_error(view) else wire_status(record.status),
        "statusMessage": _message(view),
        "createdAt": iso(record.created_ms),
        "lastUpdatedAt": iso(record.updated_ms),
        "ttl": record.ttl_ms,  # null = unlimited: a task cannot expire while it lives
        "pollInterval": record.poll_ms,
    }


def created(view: TaskView) -> dict[str, Any]:
    """`CreateTaskResult`, with words for a model that is not to wait."""
    record = view.record
    text = (
        f"{record.tool} is running as task {record.id}. The client follows it and brings the result; "
        "there is no need to call the tool again."
    )
    return {"task": task_of(view), "_meta": {IMMEDIATE_RESPONSE: text}}


def related_task(task_id: str) -> dict[str, Any]:
    """The member of `_meta` that ties a message to its task ("Related Task Metadata")."""
    return {RELATED_TASK: {"taskId": task_id}}


def _reports_error(view: TaskView) -> bool:
    if isinstance(view.outcome, Returned):
        return view.outcome.is_error
    return view.record.status is Status.COMPLETED and view.record.reason == "tool_error"


def _message(view: TaskView) -> str:
    """For a tool's own error its text, which a client shows instead of a result."""
    if isinstance(view.outcome, Returned) and view.outcome.is_error:
        texts = [str(part["text"]) for part in view.outcome.value.get("content", ()) if part.get("type") == "text"]
        return "\n".join(texts) or status_text(view)
    return status_text(view)
