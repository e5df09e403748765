"""A server over pipes, on no SDK, that makes a task of each call and knows it only in this process.

Its first argument is the revision: `2025-11-25`, or `2026-07-28` with the tasks extension.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

VERSION = sys.argv[1] if len(sys.argv) > 1 else ""
IS_MODERN = VERSION == "2026-07-28"
EXTENSION = "io.modelcontextprotocol/tasks"
FOLDER = Path(os.environ.get("TEST_FOLDER", "."))
TASKS: dict[str, dict[str, Any]] = {}
INFO = {"name": "raw tasks", "version": "1"}
TOOLS = [
    {"name": "dig", "inputSchema": {"type": "object"}, "execution": {"taskSupport": "required"}},
    {"name": "choose", "inputSchema": {"type": "object"}},
]


def send(**message: Any) -> None:
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def reply(number: Any, result: dict[str, Any]) -> None:
    more = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private", "_meta": {}} if IS_MODERN else {}
    send(id=number, result={**more, **result})


def capabilities() -> dict[str, Any]:
    if IS_MODERN:
        return {"tools": {}, "extensions": {EXTENSION: {}}}
    return {"tools": {}, "tasks": {"cancel": {}, "requests": {"tools": {"call": {}}}}}


def call(number: Any, name: str) -> None:
    """`name`: of the file whose appearance ends the task."""
    task_id = f"{os.getpid()}-{len(TASKS) + 1}"
    TASKS[task_id] = {"name": name, "status": "working"}
    with (FOLDER / f"{name}.calls").open("a") as calls:
        calls.write(f"{os.getpid()}\n")
    if IS_MODERN:
        send(id=number, result={"resultType": "task", **task_of(task_id)})
    else:
        reply(number, {"task": task_of(task_id)})


def choose(number: Any, params: dict[str, Any]) -> None:
    """Ask in a first round; only the process that asked knows the state of the second one."""
    if "requestState" not in params:
        schema = {"type": "object", "properties": {"value": {"type": "string"}}, "required": ["value"]}
        asked = {"method": "elicitation/create", "params": {"message": "Which?", "requestedSchema": schema}}
        requests = {"which": asked}
        reply(number, {"resultType": "input_required", "inputRequests": requests, "requestState": str(os.getpid())})
    elif params["requestState"] != str(os.getpid()):
        send(id=number, error={"code": -32602, "message": "Invalid or expired requestState"})
    else:
        chosen = params["inputResponses"]["which"]["content"]["value"]
        reply(number, {"content": [{"type": "text", "text": f"{chosen} in {os.getpid()}"}]})


def task_of(task_id: str) -> dict[str, Any]:
    task = TASKS[task_id]
    if task["status"] == "working" and (FOLDER / f"{task['name']}.gate").exists():
        task["status"] = "completed"
    made = "2026-11-30T00:00:00Z"
    times = {"ttlMs": 60000, "pollIntervalMs": 100} if IS_MODERN else {"ttl": 60000, "pollInterval": 100}
    known = {"taskId": task_id, "status": task["status"], "createdAt": made, "lastUpdatedAt": made, **times}
    if IS_MODERN and task["status"] == "completed":
        known["result"] = result_of(task_id)
    return known | {"statusMessage": "digging"}


def result_of(task_id: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": f"{TASKS[task_id]['name']} is dug in {os.getpid()}"}]}


def of_task(number: Any, method: str, params: dict[str, Any]) -> None:
    task_id = params["taskId"]
    if task_id not in TASKS:
        send(id=number, error={"code": -32602, "message": f"Task {task_id} not found"})
        return
    match method:
        case "tasks/get":
            reply(number, task_of(task_id))
        case "tasks/result":
            reply(number, result_of(task_id))
        case "tasks/cancel":
            TASKS[task_id]["status"] = "cancelled"
            (FOLDER / f"{TASKS[task_id]['name']}.cancelled").touch()
            reply(number, {} if IS_MODERN else task_of(task_id))


def receive(message: dict[str, Any]) -> None:
    method, number, params = message.get("method", ""), message.get("id"), message.get("params") or {}
    match method:
        case "server/discover" if IS_MODERN:
            reply(number, {"supportedVersions": [VERSION], "capabilities": capabilities(), "serverInfo": INFO})
        case "initialize" if not IS_MODERN:
            reply(number, {"protocolVersion": VERSION, "capabilities": capabilities(), "serverInfo": INFO})
        case "tools/list":
            reply(number, {"tools": TOOLS})
        case "tools/call" if params["name"] == "choose":
            choose(number, params)
        case "tools/call":
            call(number, params["arguments"]["name"])
        case "tasks/get" | "tasks/result" | "tasks/cancel":
            of_task(number, method, params)
        case "ping":
            reply(number, {})
        case _ if number is not None:
            send(id=number, error={"code": -32601, "message": "Method not found"})


if __name__ == "__main__":
    for received in sys.stdin:
        receive(json.loads(received))
