"""The floor: the official SDK's server with a plain tool and no tasks at all. `serve PORT`."""

import logging
import sys

import uvicorn
from mcp.server.mcpserver import MCPServer

mcp = MCPServer("bench")


@mcp.tool()
async def nop() -> str:
    """Do nothing."""
    return "done"


if __name__ == "__main__":
    logging.disable(logging.INFO)
    uvicorn.run(
        mcp.streamable_http_app(), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", access_log=False
    )
