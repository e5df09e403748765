"""The official Python SDK 1.x against the client tests' server: `python python1_client.py URL ACTION TOOL [ARGUMENTS]`.

Run by the interpreter of `.venv-mcp1`. Prints one JSON object a line for whatever the client is told.
"""

import asyncio
import json
import sys
from typing import Any

from mcp import ClientSession, types
from mcp.client.streamable_http import streamable_http_client

Json = dict[str, Any]
TERMINAL = ("completed", "failed", "cancelled")


def say(kind: str, **facts: Any) -> None:
    print(json.dumps({"saw": kind, **facts}), flush=True)


def as_sent(model: Any) -> Json:
    dumped: Json = model.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return dumped


async def progress(done: float, total: float | None, message: str | None) -> None:
    say("progress", progress=done, total=total, message=message)


async def answer(context: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
    say("question", params=as_sent(params))
    return types.ElicitResult(action="accept", content={"row": 5, "window": True})


async def told(message: Any) -> None:
    if isinstance(message, types.ServerNotification):
        say("notification", **as_sent(message.root))


async def call(session: ClientSession, tool: str, arguments: Json) -> None:
    result = await session.call_tool(tool, arguments, progress_callback=progress)
    say("result", **as_sent(result))


async def task(session: ClientSession, tool: str, arguments: Json) -> None:
    """Create, poll to the end, take the result, find it in the list."""
    created = await session.experimental.call_tool_as_task(tool, arguments)
    say("created", **as_sent(created))
    task_id = created.task.taskId
    asked = None
    async for status in session.experimental.poll_task(task_id):
        say("status", **as_sent(status))
        if status.status == "input_required" and asked is None:
            # The question comes on the stream of the result, which then waits for the end of the task.
            asked = asyncio.create_task(session.experimental.get_task_result(task_id, types.CallToolResult))
    result = await (asked or session.experimental.get_task_result(task_id, types.CallToolResult))
    say("result", **as_sent(result))
    listed = await session.experimental.list_tasks()
    say("listed", ids=[entry.taskId for entry in listed.tasks])


async def cancel(session: ClientSession, tool: str, arguments: Json) -> None:
    """Create, wait until it runs, cancel, look once more."""
    created = await session.experimental.call_tool_as_task(tool, arguments)
    say("created", **as_sent(created))
    task_id = created.task.taskId
    async for status in session.experimental.poll_task(task_id):
        say("status", **as_sent(status))
        if status.statusMessage and "asleep" in status.statusMessage:
            break
    say("cancelled", **as_sent(await session.experimental.cancel_task(task_id)))
    say("status", **as_sent(await session.experimental.get_task(task_id)))


ACTIONS = {"call": call, "task": task, "cancel": cancel}


async def main(url: str, action: str, tool: str, arguments: Json) -> None:
    async with (
        streamable_http_client(url) as (read, write, _),
        ClientSession(read, write, elicitation_callback=answer, message_handler=told) as session,
    ):
        opened = await session.initialize()
        say("connected", revision=opened.protocolVersion, capabilities=as_sent(opened.capabilities))
        await ACTIONS[action](session, tool, arguments)


if __name__ == "__main__":
    url, action, tool, *rest = sys.argv[1:]
    asyncio.run(main(url, action, tool, json.loads(rest[0]) if rest else {}))
