"""The server whose console is kept open: tools that end, fail, and run on with progress."""

import asyncio
from typing import Any

from taskmill.server import Context, TaskServer

mcp: TaskServer[Any] = TaskServer("Soak")


@mcp.tool(task=True)
async def quick(n: int) -> str:
    return f"{n} done"


@mcp.tool(task=True)
async def broken(n: int) -> str:
    raise ValueError(f"{n} is too much")


@mcp.tool(task=True)
async def walk(seconds: float, ctx: Context[Any, Any]) -> str:
    """Report a step twice a second."""
    steps = int(seconds * 2)
    for step in range(steps):
        await ctx.report_progress(step + 1, steps, f"step {step + 1}")
        await asyncio.sleep(0.5)
    return "walked"
