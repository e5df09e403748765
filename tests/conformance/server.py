"""The server that the official MCP conformance suite talks to: `taskmill run tests/conformance/server.py`.

Here live the task tools and the assembly. What has nothing to do with tasks lives beside it, one file a topic, and
is an ordinary MCP server there. Names, texts and schemas are the suite's; it looks for exactly these.
"""

import asyncio
from typing import Annotated

import content
import feedback
import handshake_era
import prompts
import questions
import resources
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.resolve import AcceptedElicitation, Elicit, Resolve
from mcp.shared.exceptions import MCPError
from mcp.types import INTERNAL_ERROR
from pydantic import BaseModel

from taskmill.server import Context, TaskConfig, TaskServer

# The suite calls the first tool it is shown without arguments, so that one is handed to the constructor.
mcp = TaskServer("taskmill-conformance", version="1.0.0", tools=content.FIRST_TOOLS)

for tool in (*content.TOOLS, *feedback.TOOLS, *questions.TOOLS, *handshake_era.TOOLS):
    mcp.tool()(tool)
prompts.add_to(mcp)
resources.add_to(mcp)
handshake_era.add_to(mcp)


class Confirmation(BaseModel):
    """A yes or a no."""

    confirm: bool


class Name(BaseModel):
    """Who is asking."""

    name: str


@mcp.tool()
async def greet(name: str) -> str:
    """Greet somebody at once; never a task."""
    return f"Hello, {name}!"


@mcp.tool(task=True)
async def slow_compute(seconds: float, label: str, ctx: Context) -> str:
    """Take as many seconds as asked for; a task for clients that know tasks, an ordinary call for others."""
    await ctx.report_progress(0, seconds, f"computing {label}")
    await asyncio.sleep(seconds)
    return f"Computed {label} in {seconds:g} s"


@mcp.tool(task=TaskConfig(mode="required"))
async def failing_job() -> str:
    """Work for a second, then fail as a tool; only ever a task."""
    await asyncio.sleep(1)
    raise ToolError("The job failed after one second of work")


@mcp.tool(task=True)
async def protocol_error_job() -> str:
    """Fail with a JSON-RPC error instead of a tool result."""
    raise MCPError(INTERNAL_ERROR, "The job hit a protocol error")


@mcp.tool(task=True)
async def confirm_delete(filename: str, ctx: Context) -> str:
    """Ask before deleting a file."""
    answer = await ctx.elicit(f"Delete {filename}?", Confirmation)
    if isinstance(answer, AcceptedElicitation) and answer.data.confirm:
        return f"Deleted {filename}"
    return f"Kept {filename}"


@mcp.tool(task=True)
async def multi_input(ctx: Context) -> str:
    """Ask two questions at once and wait for both answers."""
    name, confirmation = await asyncio.gather(
        ctx.elicit("What is your name?", Name),
        ctx.elicit("Shall we go on?", Confirmation),
    )
    if not isinstance(name, AcceptedElicitation) or not isinstance(confirmation, AcceptedElicitation):
        return "Not every question was answered"
    return f"{name.data.name} said {'yes' if confirmation.data.confirm else 'no'}"


def ask_name() -> Elicit[Name]:
    """The question that is settled before the task exists."""
    return Elicit("Whom should the task greet?", Name)


@mcp.tool(task=TaskConfig(mode="required"))
async def test_tool_with_task(who: Annotated[Name, Resolve(ask_name)]) -> str:
    """Ask for a name before the task is created, then greet from inside the task."""
    return f"Hello, {who.name}!"
