"""The server that the client tests talk to: `taskmill run tests/clients/server.py`.

Each tool holds one thing that a client must get through. Only `count` goes by the clock; the others wait for a file, an
answer or a cancel, so that a test decides when things happen.
"""

import asyncio
from pathlib import Path

from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.resolve import AcceptedElicitation
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel

from taskmill.server import Context, TaskConfig, TaskServer

mcp = TaskServer("taskmill-clients", version="1.0.0")
# Polls come often, so that a test need not wait for the next one.
PATIENT = TaskConfig(poll_interval=0.05)


class Seat(BaseModel):
    """Where to sit."""

    row: int
    window: bool


@mcp.tool()
async def add(a: int, b: int) -> int:
    """Add two numbers at once; never a task."""
    return a + b


@mcp.tool(task=PATIENT)
async def dig(gate: str, ctx: Context) -> str:
    """Report that half of the work is done, wait for a file to appear, and do the rest."""
    await ctx.report_progress(1, 2, "half of the hole")
    while not Path(gate).exists():
        await asyncio.sleep(0.02)
    await ctx.report_progress(2, 2, "the whole hole")
    return "dug"


@mcp.tool(task=PATIENT)
async def count(steps: int, pause: float, ctx: Context) -> str:
    """Report each of the steps, `pause` seconds apart."""
    for step in range(1, steps + 1):
        await ctx.report_progress(step, steps, f"step {step}")
        await asyncio.sleep(pause)
    return f"counted to {steps}"


@mcp.tool(task=PATIENT)
async def walk(gate: str, pause: float, ctx: Context) -> str:
    """Report step after step, `pause` seconds apart, until a file appears."""
    step = 0
    while not Path(gate).exists():
        step += 1
        await ctx.report_progress(step, None, f"step {step}")
        await asyncio.sleep(pause)
    return f"walked {step} steps"


@mcp.tool(task=PATIENT)
async def book(ctx: Context) -> str:
    """Ask for a seat and book it."""
    answer = await ctx.elicit("Which seat would you like?", Seat)
    if not isinstance(answer, AcceptedElicitation):
        return f"nothing booked: {answer.action}"
    return f"booked row {answer.data.row}{' at the window' if answer.data.window else ''}"


@mcp.tool(task=PATIENT)
async def stumble() -> str:
    """Fail as a tool."""
    raise ToolError("The ground was uneven")


@mcp.tool(task=PATIENT)
async def refuse() -> str:
    """Answer with an error of the protocol."""
    raise MCPError(-32050, "Not on a Sunday")


@mcp.tool(task=PATIENT)
async def sleep_forever(ctx: Context) -> str:
    """Run until cancelled."""
    await ctx.report_progress(0, None, "asleep")
    await asyncio.Event().wait()
    return "woken"
