"""The server of the behaviour suite: `taskmill run` serves it over HTTP and `taskmill stdio` over pipes."""

import asyncio
from typing import Any

from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel

from taskmill.server import Context, TaskConfig, TaskServer

mcp = TaskServer("behaviour")


class Person(BaseModel):
    name: str


class Report(BaseModel):
    steps: int


@mcp.tool()
def hello(name: str) -> str:
    """Greets at once."""
    return f"Hello, {name}!"


@mcp.tool(task=True)
async def steps(count: int, ctx: Context[Any, Any]) -> Report:
    """Reports progress and returns a structured result."""
    for step in range(count):
        await ctx.report_progress(step + 1, count, f"step {step + 1} of {count}")
    return Report(steps=count)


@mcp.tool(task=True)
async def stay(ctx: Context[Any, Any]) -> str:
    """Says one thing, logs another, and never ends by itself."""
    await ctx.report_progress(1, 4, "settling in")
    await ctx.log("info", "a word for nobody")
    await asyncio.Event().wait()
    return "never"


@mcp.tool(task=True)
async def complain(how: str) -> str:
    """Fails in one of the ways a tool can."""
    if how == "tool":
        raise ToolError("the printer is on fire")
    if how == "protocol":
        raise MCPError(-32050, "no such printer", {"printer": 7})
    raise RuntimeError("the secret word is swordfish")


@mcp.tool(task=TaskConfig(mode="required"))
async def strict() -> str:
    """Runs only as a task."""
    return "fine"


@mcp.tool(task=True)
async def ask_two(ctx: Context[Any, Any]) -> str:
    """Asks two questions at once, and then a third."""
    first, second = await asyncio.gather(ctx.elicit("First?", Person), ctx.elicit("Second?", Person))
    third = await ctx.elicit("Third?", Person)
    return " ".join(one.data.name if one.action == "accept" else one.action for one in (first, second, third))


@mcp.tool(task=True)
async def ask_everything(ctx: Context[Any, Any]) -> list[str]:
    """Asks all there is to ask at once."""
    form, link, model, roots = await asyncio.gather(
        ctx.elicit("Who?", Person),
        ctx.elicit_url("Sign in, please.", "https://bank.example/login"),
        ctx.sample("Tell me a joke."),
        ctx.list_roots(),
    )
    name = form.data.name if form.action == "accept" else form.action
    return [name, link.action, getattr(model.content, "text", ""), *(str(root.uri) for root in roots.roots)]
