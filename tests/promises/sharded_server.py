"""A server whose tools have a queue each, `default` and `reports`."""

import asyncio
from pathlib import Path
from typing import Any

from taskmill.server import Context, TaskConfig, TaskServer

mcp = TaskServer("Shards")


@mcp.tool(task=True)
async def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


@mcp.tool(task=TaskConfig(queue="reports", poll_interval=0.1))
async def report(gate: str, ctx: Context[Any, Any]) -> str:
    """Waits for a file."""
    await ctx.report_progress(1, 2, "waiting")
    while not Path(gate).exists():
        await asyncio.sleep(0.02)
    return f"reported at attempt {ctx.attempt}"
