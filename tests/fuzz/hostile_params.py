"""Methods and their parameters: each as its method wants them, and some values that nobody wants."""

from typing import Any

from mcp_types.methods import CLIENT_NOTIFICATIONS, CLIENT_REQUESTS, SERVER_REQUESTS

from tests.fuzz.choices import Choices
from tests.fuzz.json_text import ODD
from tests.fuzz.oracle import ARGUMENT
from tests.fuzz.target import Target

__all__ = ["METHODS", "params_of", "task_id_in"]

METHODS: tuple[str, ...] = tuple(
    sorted(
        {method for method, _ in (*CLIENT_REQUESTS, *CLIENT_NOTIFICATIONS, *SERVER_REQUESTS)}
        | {"tasks/get", "tasks/update", "tasks/cancel", "tasks/result", "tasks/list", "notifications/tasks"}
        | {"", "rpc.discover", "tools", "tools/call/", "TOOLS/CALL", "x" * 300, "\ud800", "__init__"}
    )
)
"""Every method of either revision, and some of none."""
_TOOLS = (
    *("echo", "once", "keyed", "ask", "stumble", "hello", "guarded", "stay", "ask_now"),
    *("task_status", "task_answer", "task_cancel", "task_list", "task_wait", "nothing", ""),
)


def task_id_in(choices: Choices, target: Target) -> Any:
    """An id that may be somebody's, or no id at all."""
    own = (*target.ada.tasks, *target.bob.tasks)
    return choices.pick(own) if choices.chance(65) else choices.pick(ODD)


def params_of(method: str, choices: Choices, target: Target) -> dict[str, Any]:
    """Parameters as the method wants them, with values that nobody wants."""
    task_id = task_id_in(choices, target)
    answer = choices.pick(
        ({"action": "decline"}, {"action": "accept", "content": {"name": ARGUMENT}}, {"action": "accept"}, 1)
    )
    match method:
        case "tools/call":
            return _call(choices, target)
        case "tasks/update":
            return {"taskId": task_id, "inputResponses": {choices.pick((target.ada.question, "x", "\ud800")): answer}}
        case "tasks/list" | "tools/list" | "resources/list" | "prompts/list" | "resources/templates/list":
            return {} if choices.chance(40) else {"cursor": choices.pick((target.ada.cursor, target.bob.cursor, *ODD))}
        case "subscriptions/listen":
            ids = [task_id, target.ada.done] if choices.chance(70) else choices.pick(ODD)
            return {
                "notifications": {"taskIds": ids, "toolsListChanged": True, "resourceSubscriptions": [str(task_id)]}
            }
        case "resources/read" | "resources/subscribe" | "resources/unsubscribe":
            return {"uri": _uri(choices, target, task_id)}
        case "prompts/get":
            return {"name": choices.pick(("poem", "x")), "arguments": {"theme": ARGUMENT}}
        case "completion/complete":
            return {"ref": {"type": "ref/prompt", "name": "poem"}, "argument": {"name": "theme", "value": ARGUMENT}}
        case "notifications/cancelled":
            return {"requestId": choices.pick((1, 77, "a", *ODD)), "reason": ARGUMENT}
        case "notifications/progress":
            return {"progressToken": choices.pick(ODD), "progress": choices.pick(ODD)}
        case "logging/setLevel":
            return {"level": choices.pick(("debug", "x"))}
        case _:
            return {"taskId": task_id} if choices.chance(60) or method.startswith("tasks/") else {}


def _uri(choices: Choices, target: Target, task_id: Any) -> Any:
    artifacts = (target.ada.artifact, target.bob.artifact, "x", "\ud800", "")
    return choices.pick(
        (
            f"taskmill://artifact/{choices.pick(artifacts)}",
            f"taskmill://task/{task_id}/output",
            f"taskmill://task/{task_id}",
            "taskmill://",
            "note://x",
            "note://\ud800",
            "file:///etc/passwd",
            "http://127.0.0.1/",
            "",
            "note:///../x",
            *ODD,
        )
    )


def _call(choices: Choices, target: Target) -> dict[str, Any]:
    tool = choices.pick(_TOOLS)
    value = choices.pick((ARGUMENT, *ODD))
    match tool:
        case "echo":
            arguments: dict[str, Any] = {
                "value": {"told": ARGUMENT, "value": value},
                "count": choices.pick((0, 1, 3, *ODD)),
            }
        case "once":
            arguments = {"text": ARGUMENT}
        case "keyed":
            arguments = {"path": choices.pick((ARGUMENT, "\ud800")), "more": value, "number": choices.pick((0, *ODD))}
        case "stumble":
            arguments = {"how": choices.pick(("tool", "crash", value))}
        case "task_answer":
            arguments = {"task_id": task_id_in(choices, target), "key": target.ada.question, "answer": {"name": value}}
        case "task_status" | "task_cancel" | "task_wait":
            arguments = {"task_id": task_id_in(choices, target)}
        case _:
            arguments = {"name": value, "table": value}
    whole: dict[str, Any] = {"name": tool, "arguments": arguments}
    if choices.chance(25):
        whole["task"] = choices.pick(({}, {"ttl": 1000}, {"ttl": -1}, *ODD))
    if choices.chance(25):
        whole["_meta"] = {
            choices.pick(("progressToken", "io.taskmill/idempotencyKey", "traceparent", "baggage")): choices.pick(
                ("a", *ODD)
            )
        }
    if choices.chance(10):
        whole["requestState"] = choices.pick((f"taskmill.task:{target.ada.asking}", *ODD))
        whole["inputResponses"] = {target.ada.question: {"action": "decline"}}
    return whole
