"""A server with one slow tool, which says in a file outside Redis when it starts and ends."""

import asyncio
import os
from pathlib import Path
from typing import Any

from taskmill.server import Context, TaskServer

mcp = TaskServer("Promises")


@mcp.tool(task=True)
async def walk(journal: str, gate: str, ctx: Context[Any, Any]) -> str:
    """Walks until the gate is there."""
    note(journal, f"start {ctx.task_id} {ctx.attempt} {ctx.fence} {os.getpid()}")
    step = 0
    while not Path(gate).exists():
        step += 1
        await ctx.report_progress(step, None, f"step {step}")
        await asyncio.sleep(0.05)
    note(journal, f"end {ctx.task_id} {ctx.attempt} {ctx.fence} {os.getpid()}")
    return f"arrived at attempt {ctx.attempt}"


def note(journal: str, line: str) -> None:
    """One line, in one write."""
    with open(journal, "a") as file:
        file.write(line + "\n")
