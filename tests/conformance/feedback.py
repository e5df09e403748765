"""Tools that speak before they return: progress, log lines, and changes of the lists; nothing here asks."""

import asyncio

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.prompts import Prompt

__all__ = ["TOOLS"]


async def test_tool_with_progress(ctx: Context) -> str:
    """Report progress three times on the call's own stream."""
    for done in (0, 50, 100):
        await ctx.report_progress(done, 100, f"{done} of 100")
        await asyncio.sleep(0.05)
    return "All progress was reported"


async def test_tool_with_logging(ctx: Context) -> str:
    """Send three log messages while running."""
    for line in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(line)
        await asyncio.sleep(0.05)
    return "All log messages were sent"


async def test_logging_tool(ctx: Context) -> str:
    """Send one log message, which reaches only a request that asked for a level."""
    await ctx.info("A message for those who asked for messages")
    return "Logged"


async def test_trigger_tool_change(ctx: Context) -> str:
    """Add a tool, or take it away again, and tell the open subscriptions."""
    names = {tool.name for tool in await ctx.mcp_server.list_tools()}
    if dynamic_tool.__name__ in names:
        ctx.mcp_server.remove_tool(dynamic_tool.__name__)
    else:
        ctx.mcp_server.add_tool(dynamic_tool)
    await ctx.notify_tools_changed()
    return "The list of tools has changed"


async def test_trigger_prompt_change(ctx: Context) -> str:
    """Add a prompt, or take it away again, and tell the open subscriptions."""
    names = {prompt.name for prompt in await ctx.mcp_server.list_prompts()}
    if dynamic_prompt.__name__ in names:
        ctx.mcp_server.remove_prompt(dynamic_prompt.__name__)
    else:
        ctx.mcp_server.add_prompt(Prompt.from_function(dynamic_prompt))
    await ctx.notify_prompts_changed()
    return "The list of prompts has changed"


async def dynamic_tool() -> str:
    """Exist only between two changes of the list."""
    return "Here for now"


def dynamic_prompt() -> str:
    """Exist only between two changes of the list."""
    return "Here for now"


TOOLS = (
    test_tool_with_progress,
    test_tool_with_logging,
    test_logging_tool,
    test_trigger_tool_change,
    test_trigger_prompt_change,
)
