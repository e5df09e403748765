"""The official SDK's server with plain tools and no tasks at all: the floor, and what stands behind Taskmill.

`serve PORT`; `pipes`: over standard input and output. `hold` ends when the file BENCH_JOURNAL.gate is there.
"""

import asyncio
import logging
import sys

import uvicorn
from journal import is_open, note_now
from mcp.server.mcpserver import MCPServer

mcp = MCPServer("bench")
_opening: asyncio.Task[None] | None = None


@mcp.tool()
async def nop() -> str:
    """Do nothing."""
    return "done"


@mcp.tool()
async def hold() -> str:
    """Wait until all of them may end."""
    global _opening
    note_now("held")
    _opening = _opening or asyncio.create_task(_gate_opened())
    await asyncio.shield(_opening)
    return "released"


async def _gate_opened() -> None:
    while not is_open("gate"):  # noqa: ASYNC110 (another process opens it)
        await asyncio.sleep(0.02)


if __name__ == "__main__":
    logging.disable(logging.INFO)
    if sys.argv[1] == "pipes":
        mcp.run()
    else:
        app = mcp.streamable_http_app()
        uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", access_log=False)
