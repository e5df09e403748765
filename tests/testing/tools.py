"""The server that the tests of the test kit test, as an author would write it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp_types import TextContent
from pydantic import BaseModel

from taskmill.server import Context, TaskConfig, TaskServer


class Order(BaseModel):
    size: str


@asynccontextmanager
async def lifespan(_server: Any) -> AsyncIterator[dict[str, Any]]:
    yield {"warehouse": "north"}


mcp: TaskServer[Any] = TaskServer("Shop", lifespan=lifespan, visible_claims=["email"])


class Gate:
    """Holds tools up; unlike an event it belongs to no loop."""

    def __init__(self) -> None:
        self.is_open = False

    async def passed(self) -> None:
        while not self.is_open:
            await asyncio.sleep(0.01)


GATE = Gate()


@mcp.tool(task=True)
async def pack(count: int, ctx: Context[Any, Any]) -> str:
    """Says how far it is and returns."""
    for number in range(count):
        await ctx.report_progress(number + 1, count, f"box {number + 1}")
    return f"{count} boxes from {ctx.lifespan['warehouse']}"


@mcp.tool(task=True)
async def report_by_name(ctx: Context[Any, Any]) -> str:
    """Says how far it is in every way that there is."""
    await ctx.report_progress(current=1, total=2, message="one")
    await ctx.report_progress(progress=2, total=2, message="two")
    await ctx.report_progress(message="only words")
    try:
        await ctx.report_progress(1, current=1)
    except TypeError:
        return "both are one too many"
    return "both"


@mcp.tool(task=True)
async def order(ctx: Context[Any, Any]) -> str:
    """Asks for the size."""
    answer = await ctx.elicit("Which size?", Order)
    return answer.data.size if answer.action == "accept" else answer.action


@mcp.tool(task=True)
async def consult(ctx: Context[Any, Any]) -> str:
    """Asks the client's model, and for its roots."""
    said = await ctx.sample("How many boxes?")
    roots = await ctx.list_roots()
    assert isinstance(said.content, TextContent)
    return f"{said.content.text} in {roots.roots[0].uri}"


@mcp.tool(task=True)
async def slow(ctx: Context[Any, Any]) -> str:
    """Works until it may go."""
    await ctx.report_progress(1, 2, "half way")
    await GATE.passed()
    return "at last"


@mcp.tool(task=True)
async def leave(ctx: Context[Any, Any]) -> str:
    """Emits, attaches, takes a step, looks at who called."""

    async def rows() -> AsyncIterator[bytes]:
        yield b"a,b\n"
        yield b"1,2\n"

    await ctx.emit("first ")
    await ctx.emit({"then": 2})
    link = await ctx.attach(rows(), name="rows.csv")
    return f"{link.name} {link.size} for {ctx.claims.get('email')} on attempt {ctx.attempt}"


@mcp.tool(task=True)
async def stepwise(ctx: Context[Any, Any]) -> str:
    """Two durable steps."""
    return f"{await ctx.step('one', lambda: 1)} {await ctx.step('two', lambda: 2)}"


@mcp.tool(task=True)
async def fail(how: str) -> str:
    """Fails in one of the ways there are."""
    if how == "tool":
        raise ToolError("out of boxes")
    if how == "protocol":
        raise MCPError(-32050, "closed")
    raise LookupError("shelf 7")


@mcp.tool(task=TaskConfig(retries=1, backoff=0))
async def second_time_lucky(ctx: Context[Any, Any]) -> str:
    """Fails once."""
    if ctx.attempt == 1:
        raise LookupError("shelf 7")
    return "found"


@mcp.tool()
async def quick() -> str:
    """No task at all."""
    return "quick"
