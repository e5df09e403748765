"""Drives the client tests' server with FastMCP's client and its tasks extension, and prints what came back as JSON.

Run by the interpreter of `.venv-peers`, which has FastMCP and not Taskmill: `python fastmcp_client.py URL GATE`.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from fastmcp import Client
from fastmcp_tasks import call_tool_task


async def main(url: str, gate: Path) -> dict[str, Any]:
    async with Client(url) as client:
        return {
            "add": text_of(await client.call_tool("add", {"a": 2, "b": 3})),
            "dig": await dig(client, gate),
            "transparent": text_of(await client.call_tool("dig", {"gate": str(gate)})),
            "book": await book(url),
            "sleep_forever": await sleep_forever(client),
        }


async def dig(client: Any, gate: Path) -> dict[str, Any]:
    """Start the task, wait for its message, open the gate, and take the result."""
    task = await call_tool_task(client, "dig", {"gate": str(gate)})
    messages: list[str] = []
    async with asyncio.timeout(20):
        while not any("half of the hole" in message for message in messages):
            messages.append((await task.status()).status_message or "")
            await asyncio.sleep(0.05)
    gate.touch()
    result = await task.result()
    ended = await task.status()
    return {
        "created": payload(task.create_result),
        "messages": messages,
        "result": text_of(result),
        "ended": payload(ended),
    }


async def book(url: str) -> str:
    """Let the call become a task, and answer its question through the client's own handler."""

    async def answer(message: str, response_type: Any, params: Any, context: Any) -> dict[str, Any]:
        return {"row": 7, "window": True}

    async with Client(url, elicitation_handler=answer) as client:
        return text_of(await client.call_tool("book", {}))


async def sleep_forever(client: Any) -> dict[str, Any]:
    task = await call_tool_task(client, "sleep_forever", {})
    await task.cancel()
    return payload(await task.wait(timeout=20))


def text_of(result: Any) -> str:
    text: str = result.content[0].text
    return text


def payload(model: Any) -> dict[str, Any]:
    """As it was on the wire."""
    dumped: dict[str, Any] = model.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return dumped


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], Path(sys.argv[2])))))
