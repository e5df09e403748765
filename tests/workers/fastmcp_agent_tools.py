"""The same tool as in `agent_tools.py`, of a FastMCP server."""

from typing import Any

from agent_tools import MODEL, press_buttons
from fastmcp import FastMCP

from taskmill.adapters.fastmcp import CurrentTask, Task, Tasks
from taskmill.adapters.foreign_servers import host_of

server: FastMCP[Any] = FastMCP("Tests")
server.add_extension(Tasks(sampling=MODEL))


@server.tool(task=True)
async def press_all(journal: str, gates: str, task: Task = CurrentTask()) -> str:  # noqa: B008 - FastMCP's way
    """Presses all buttons."""
    return await press_buttons(journal, gates, task)


mcp = host_of(server)
