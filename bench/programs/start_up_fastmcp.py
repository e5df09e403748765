"""The same server of FastMCP's, whose tool is no task. Run by the interpreter of `.venv-peers`."""

import asyncio

from fastmcp import FastMCP

mcp = FastMCP("Start")


@mcp.tool
async def nap() -> str:
    """Sleep for a second."""
    await asyncio.sleep(1)
    return "slept"
