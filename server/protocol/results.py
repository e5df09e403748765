"""What a call of a task is answered with in the end, for clients that know no tasks or speak 2025-11-25.

JSON bodies (`result` or `error`) of JSON-RPC responses, in the shape of the client's revision.
"""

import json
from typing import Any, assert_never

from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, CallToolResult, TextContent, methods

from taskmill.engine.outcome import Failed, Refused, Returned
from taskmill.engine.record import TaskView
from taskmill.server.protocol.errors import error_of
from taskmill.server.protocol.shapes_2025 import related_task
from taskmill.server.protocol.shapes_2026 import ATTEMPT_ERRORS, attempt_errors
from taskmill.server.protocol.status_text import status_text

__all__ = [
    "HandOffBody",
    "HandOffResult",
    "call_response",
    "error_result",
    "hand_off_response",
    "hand_off_result",
    "tool_result",
]

_CANCELLED = "The task was cancelled."
_DECLINED = '{"action": "decline"}'


class HandOffResult(CallToolResult):
    """A result that names a task in the place of its tool's result: nothing may keep it as the tool's."""


class HandOffBody(dict[str, Any]):
    """The same as JSON."""


def tool_result(view: TaskView) -> CallToolResult:
    """The tool's own result.

    Raises:
        MCPError: the tool raised one, the task broke, or it was cancelled.
    """
    errors = attempt_errors(view)
    match view.outcome:
        case Returned():
            value = view.outcome.value
            if errors:
                value = {**value, "_meta": {**(value.get("_meta") or {}), ATTEMPT_ERRORS: errors}}
            return CallToolResult.model_validate(value, by_name=False)
        case Refused():
            error = error_of(view.outcome)
            raise MCPError(error["code"], error["message"], error.get("data"))
        case Failed():
            error = error_of(view.outcome)
            data = {**error["data"], "attemptErrors": errors} if errors else error["data"]
            raise MCPError(error["code"], error["message"], data)
        case None:
            raise MCPError(INTERNAL_ERROR, _CANCELLED, {"reason": "cancelled"})
        case _:
            assert_never(view.outcome)


def call_response(view: TaskView, version: str, *, related_to: str | None = None) -> dict[str, Any]:
    """`{"result": ...}` or `{"error": ...}` of an ended task, exactly as a foreground call is answered.

    `related_to`: the task to name in `_meta`; `tasks/result` must.
    """
    try:
        result = _shaped(tool_result(view), version)
    except MCPError as exc:
        error = {"code": exc.error.code, "message": exc.error.message, "data": exc.error.data}
        return {"error": {name: value for name, value in error.items() if value is not None}}
    if related_to is not None:
        result["_meta"] = {**result.get("_meta", {}), **related_task(related_to)}
    return {"result": result}


def hand_off_response(view: TaskView, version: str) -> dict[str, Any]:
    """`{"result": ...}` of a call that ends before its task does."""
    return {"result": HandOffBody(_shaped(hand_off_result(view), version))}


def hand_off_result(view: TaskView) -> HandOffResult:
    """A normal result whose words make a model follow the task instead of starting it again."""
    return HandOffResult(content=[TextContent(type="text", text=_hand_off_text(view))])


def error_result(text: str) -> CallToolResult:
    """The result of a tool that failed, in words for the model that called it."""
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)


def question_lines(view: TaskView) -> str:
    """The open questions, a line each: key, words, and the form of the answer."""
    return "\n".join(_shown(key, question) for key, question in view.questions.items())


def _hand_off_text(view: TaskView) -> str:
    record = view.record
    if view.questions:
        return _question_text(view)
    return (
        f"{record.tool} is still running ({status_text(view)}). This is not an error, and nothing was lost: the work "
        f"goes on as task {record.id}.\n"
        f'Next step: call the tool task_wait with {{"task_id": "{record.id}"}}. It waits and returns the result of '
        f"{record.tool}; if it says that the task is still running, call it again, as often as needed. Do not call "
        f"{record.tool} again: that would start the work a second time. To end it, call task_cancel."
    )


def _question_text(view: TaskView) -> str:
    record = view.record
    return (
        f"{record.tool} runs as task {record.id} and waits for an answer.\n{question_lines(view)}\n"
        "Next step: get the answer - what is asked of the user from the user, do not make it up - and call the tool "
        f'task_answer with {{"task_id": "{record.id}", "key": "<the key above>", "answer": <the answer>}}. Then call '
        "task_wait. Do not start the work again."
    )


def _shown(key: str, question: dict[str, Any]) -> str:
    params = question.get("params", {})
    return f'- key "{key}": {_words(question["method"], params)}'


def _words(method: str, params: dict[str, Any]) -> str:
    """The question for a model, and the form of its answer; see `task_answer`."""
    match method, params.get("mode"):
        case "sampling/createMessage", _:
            asked = {name: params[name] for name in ("systemPrompt", "messages") if name in params}
            return f'it asks you, the model, to reply to {_compact(asked)}. The answer is {{"text": "<your reply>"}}.'
        case "roots/list", _:
            return 'it asks which directories you work in. The answer is {"roots": ["file:///...", ...]}.'
        case _, "url":
            opened = f"The user must open {params['url']} in a browser; do not open it yourself."
            return (
                f'{params["message"]} {opened} The answer is {{"action": "accept"}} once the user has, or {_DECLINED}.'
            )
        case _:
            form = f"The answer must fit this JSON schema: {_compact(params.get('requestedSchema'))}"
            return f"{params['message']} {form} - or be {_DECLINED} if the user declines."


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _shaped(result: CallToolResult, version: str) -> dict[str, Any]:
    dumped = result.model_dump(by_alias=True, mode="json", exclude_none=True)
    return methods.serialize_server_result("tools/call", version, dumped)
