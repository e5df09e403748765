"""A server over pipes that is on no SDK, of revision 2025-06-18 at most: what it does wrong, it is asked to do."""

import itertools
import json
import os
import sys
import threading
import time
from typing import Any

LOCK = threading.Lock()
NUMBERS = itertools.count(1)
ANSWERS: dict[Any, dict[str, Any]] = {}
ANSWERED = threading.Condition()
CANCELLED: dict[Any, str] = {}
"""By the id of a call that hangs, the file that its cancel makes."""
TOOLS = [
    "pid",
    "ask",
    "sample",
    "roots",
    "talk",
    "wrong",
    "die",
    "hang",
    "big",
    "flood",
    "echo",
    "grow",
    "read",
    "write",
    "levels",
    "levels_now",
]
LEVELS = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"]
LEVEL = ["info"]
"""From which on it logs."""
FOLDER = os.environ.get("TEST_FOLDER", ".")
GROWN = os.path.join(FOLDER, "grown")
"""A file with the names of tools that have come since."""


def send(**message: Any) -> None:
    line = json.dumps({"jsonrpc": "2.0", **message})
    with LOCK:
        print(line, flush=True)


def ask(method: str, params: dict[str, Any]) -> dict[str, Any]:
    number = f"q{next(NUMBERS)}"
    send(id=number, method=method, params=params)
    with ANSWERED:
        ANSWERED.wait_for(lambda: number in ANSWERS)
    return ANSWERS.pop(number)


def text(words: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": words}]}


def tool(name: str) -> dict[str, Any]:
    return {"name": name, "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": name in ("pid", "read")}}


def tools() -> list[str]:
    if not os.path.exists(GROWN):
        return TOOLS
    with open(GROWN) as grown:
        return [*TOOLS, *grown.read().split()]


def call(number: Any, name: str, given: dict[str, Any], token: Any) -> None:
    match name:
        case "pid":
            send(id=number, result=text(str(os.getpid())))
        case "echo":
            send(id=number, result=text(json.dumps(given)))
        case "ask":
            schema = {"type": "object", "properties": {"value": {"type": "string"}}, "required": ["value"]}
            said = ask("elicitation/create", {"message": given["question"], "requestedSchema": schema})
            send(id=number, result=text(json.dumps(said.get("result", said.get("error")))))
        case "sample":
            message = {"role": "user", "content": {"type": "text", "text": given["question"]}}
            said = ask("sampling/createMessage", {"messages": [message], "maxTokens": 9})
            send(id=number, result=text(json.dumps(said.get("result", said.get("error")))))
        case "roots":
            said = ask("roots/list", {})
            send(id=number, result=text(json.dumps(said.get("result", said.get("error")))))
        case "talk":
            for at in range(given.get("times", 20)):
                send(method="notifications/message", params={"level": "info", "data": given["word"]})
                send(
                    method="notifications/progress",
                    params={"progressToken": token, "progress": at, "message": given["word"]},
                )
                time.sleep(0.02)  # so that two of these run at the same time
            send(id=number, result=text(given["word"]))
        case "wrong":
            wrong(number, given["how"])
        case "die":
            os._exit(3)
        case "hang":
            CANCELLED[number] = given["file"]
            with open(f"{given['file']}.begun", "w"):
                pass
        case "big":
            send(id=number, result=text("x" * given["size"]))
        case "flood":
            for _ in range(given["times"]):
                send(method="notifications/message", params={"level": "debug", "data": "y" * 200})
            send(id=number, result=text("the end of the flood"))
        case "levels" | "levels_now":
            for level in LEVELS[LEVELS.index(LEVEL[0]) :]:
                send(method="notifications/message", params={"level": level, "data": given["word"]})
            send(id=number, result=text(LEVEL[0]))
        case "grow":
            with open(GROWN, "a") as grown:
                grown.write(f"{given['name']}\n")
            send(method="notifications/tools/list_changed")
            send(id=number, result=text(f"{given['name']} has come"))
        case "read" | "write":
            with open(os.path.join(FOLDER, f"{given['name']}.calls"), "a") as calls:
                calls.write(f"{os.getpid()}\n")
            while not os.path.exists(os.path.join(FOLDER, f"{given['name']}.gate")):
                time.sleep(0.02)
            send(id=number, result=text(f"{given['name']} is done"))
        case _ if name in tools():
            send(id=number, result=text(f"I am {name}"))
        case _:
            send(id=number, error={"code": -32602, "message": f"Unknown tool: {name}"})


def wrong(number: Any, how: str) -> None:
    match how:
        case "line":
            with LOCK:
                print("Traceback? no, only a line that is no JSON", flush=True)
            send(id=number, result=text("after the line"))
        case "shape":
            send(id=number, result={"content": 7, "isError": "perhaps"})
        case "error":
            send(id=number, error={"code": -32099, "message": "its own error", "data": {"why": "because"}})
        case "other":
            send(id=f"not-{number}", result=text("for another call"))
            send(method="notifications/nothing/known", params={"a": 1})
            send(id=number, result=text("for this call"))


def receive(message: dict[str, Any]) -> None:
    method, number = message.get("method"), message.get("id")
    params = message.get("params") or {}
    match method:
        case None:
            with ANSWERED:
                ANSWERS[number] = message
                ANSWERED.notify_all()
        case "initialize":
            info = {"name": "raw", "version": "1"}
            capabilities = {"tools": {"listChanged": True}, "logging": {}}
            result = {"protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": info}
            send(id=number, result=result)
        case "tools/list":
            send(id=number, result={"tools": [tool(name) for name in tools()]})
        case "tools/call":
            token = (params.get("_meta") or {}).get("progressToken")
            words = (number, params["name"], params.get("arguments") or {}, token)
            threading.Thread(target=call, args=words, daemon=True).start()
        case "notifications/cancelled":
            # At once: the process may be ended right behind it.
            with open(CANCELLED.pop(params["requestId"]), "w"):
                pass
        case "logging/setLevel":
            LEVEL[0] = params["level"]
            send(id=number, result={})
        case "ping":
            send(id=number, result={})
        case _ if number is not None:
            send(id=number, error={"code": -32601, "message": "Method not found"})
        case _:
            pass


if __name__ == "__main__":
    with open(os.path.join(os.environ["TEST_FOLDER"], "raw.pids"), "a") as pids:
        pids.write(f"{os.getpid()}\n")
    for received in sys.stdin:
        receive(json.loads(received))
