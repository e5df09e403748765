"""The server of `server.py` as an author of FastMCP writes it: nothing in it is of Taskmill."""

import asyncio
import os
from pathlib import Path
from typing import Any

from fastmcp import Context, FastMCP
from pydantic import BaseModel

mcp = FastMCP("Hosts")


class YesNo(BaseModel):
    """The form of the question."""

    yes: bool


@mcp.tool(task=True)
async def survey(seconds: int, ctx: Context) -> dict[str, Any]:
    """Surveys the shelves for so many seconds and returns what it found."""
    for shelf in range(seconds):
        await ctx.report_progress(shelf + 1, seconds, f"shelf {shelf + 1}")
        await asyncio.sleep(1)
    return {"found": f"{seconds * 7} jars", "seconds": seconds}


@mcp.tool(task=True)
async def ask_me(ctx: Context) -> dict[str, Any]:
    """Asks a yes/no question half-way, and returns what was answered."""
    await ctx.report_progress(1, 2, "before the question")
    answer = await ctx.elicit("Go on with the second half?", YesNo)
    await ctx.report_progress(2, 2, "after the question")
    return {"action": answer.action, "yes": answer.data.yes if answer.action == "accept" else None}


@mcp.tool(task=True)
async def wait_here(label: str, ctx: Context) -> str:
    """Waits for ninety seconds, and leaves its task's id under the label in the folder HOSTS_FOLDER."""
    Path(os.environ["HOSTS_FOLDER"], label).write_text(ctx.task_id or "")
    for second in range(90):
        await ctx.report_progress(second + 1, 90)
        await asyncio.sleep(1)
    return "waited"


@mcp.tool
async def greet(name: str) -> str:
    """Greets at once."""
    return f"hello {name}"
