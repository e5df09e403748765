"""The server of the tests of a model's loop: its model is one on loopback, which the environment names."""

import asyncio
import os
from pathlib import Path
from typing import Any

from tools import append

from taskmill.server import Context, TaskServer

MODEL = os.environ.get("TEST_MODEL", "anthropic/claude-test")
mcp: TaskServer[Any] = TaskServer("Tests", sampling=MODEL)


async def press_buttons(journal: str, gates: str, ctx: Any) -> str:
    """Has a model press buttons; each waits for a file of its name. `ctx`: the task, of either framework."""

    async def press(number: int) -> str:
        """Press a button."""
        append(journal, [f"begun {number}", ctx.idempotency_key])
        while not (Path(gates) / f"go-{number}").exists():
            await asyncio.sleep(0.01)
        append(journal, [f"done {number}", ctx.idempotency_key])
        return f"pressed {number}"

    end = await ctx.sample("Press ten buttons.", tools=[press], system="You press buttons.")
    results = [one for message in end.messages for one in message.content_as_list if one.type == "tool_result"]
    pressed = [getattr(one.content[0], "text", "") for one in results]
    return f"{end.text} after {end.steps}: {', '.join(pressed)}"


@mcp.tool(task=True)
async def press_all(journal: str, gates: str, ctx: Context[Any, Any]) -> str:
    """Presses all buttons."""
    return await press_buttons(journal, gates, ctx)
