"""The server of `server.py` as someone writes it who does not know Taskmill: the official SDK, and no tasks.

Over standard input and output; with a port as its argument over HTTP.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated, Any

from mcp.server.elicitation import AcceptedElicitation, ElicitationResult
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.resolve import Elicit, Resolve
from pydantic import BaseModel

mcp = MCPServer("Hosts")


class YesNo(BaseModel):
    """The form of the question."""

    yes: bool


@mcp.tool()
async def survey(seconds: int, ctx: Context) -> dict[str, Any]:
    """Surveys the shelves for so many seconds and returns what it found."""
    for shelf in range(seconds):
        await ctx.report_progress(shelf + 1, seconds, f"shelf {shelf + 1}")
        await asyncio.sleep(1)
    return {"found": f"{seconds * 7} jars", "seconds": seconds}


def question() -> Elicit[YesNo]:
    """What `ask_me` asks, in the way of the client's revision."""
    return Elicit("Go on with the second half?", YesNo)


@mcp.tool()
async def ask_me(answer: Annotated[ElicitationResult[YesNo], Resolve(question)]) -> dict[str, Any]:
    """Asks a yes/no question, and returns what was answered."""
    return {"action": answer.action, "yes": answer.data.yes if isinstance(answer, AcceptedElicitation) else None}


@mcp.tool()
async def wait_here(label: str, ctx: Context) -> str:
    """Waits for ninety seconds, and writes under the label in the folder HOSTS_FOLDER how far it is."""
    state = Path(os.environ["HOSTS_FOLDER"], label)
    state.write_text("running")
    try:
        for second in range(90):
            await ctx.report_progress(second + 1, 90)
            await asyncio.sleep(1)
    except asyncio.CancelledError:
        state.write_text("cancelled")
        raise
    state.write_text("completed")
    return "waited"


@mcp.tool()
async def greet(name: str) -> str:
    """Greets at once."""
    return f"hello {name}"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        mcp.run("streamable-http", port=int(sys.argv[1]))
    else:
        mcp.run()
