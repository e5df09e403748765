"""A server as people write them, for the command line: a tool of one second."""

import asyncio

from taskmill.server import TaskServer

mcp = TaskServer("Start")


@mcp.tool(task=True)
async def nap() -> str:
    """Sleep for a second."""
    await asyncio.sleep(1)
    return "slept"
