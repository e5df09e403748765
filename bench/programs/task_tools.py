"""The task tools that Taskmill and FastMCP are measured with, alike for both; each library brings its own `Context`."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from journal import note, note_first, note_now

__all__ = ["add_tools"]


async def nop() -> str:
    """Do nothing."""
    note_first("started")
    return "done"


async def stamp(sent_ns: int) -> str:
    """Note when it was sent and when it started."""
    note_now("stamped", sent_ns)
    return "done"


async def hold() -> str:
    """Run until the process ends, or the task is cancelled."""
    note_now("held")
    await asyncio.Event().wait()
    return "released"


async def cling(name: str) -> str:
    """Run until cancelled, and note when that was."""
    note("clinging", name)
    try:
        await asyncio.Event().wait()
    finally:
        note_now("cancelled", name)
    return "released"


def add_tools(mcp: Any, context: type) -> None:
    """Add all of them to a server. `context`: the class that the library passes to a parameter of that type."""

    async def report(count: int, ctx: context) -> str:  # the class, not its name: read at run time
        """Report progress `count` times, note how long that took, and stay."""
        started = time.perf_counter()
        for step in range(1, count + 1):
            await ctx.report_progress(step, count, f"report {step}")
        note("reported", count, time.perf_counter() - started)
        await asyncio.Event().wait()
        return "done"

    async def tick(gap: float, ctx: context) -> str:
        """Report the time, every `gap` seconds, until the process ends."""
        note_now("ticking")
        while True:
            await ctx.report_progress(0, None, f"tick {time.monotonic_ns()}")
            await asyncio.sleep(gap)

    tools: tuple[Callable[..., Any], ...] = (nop, stamp, hold, cling, report, tick)
    for tool in tools:
        mcp.tool(task=True)(tool)
