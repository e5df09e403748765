"""Server middleware that notices tools which have come since the server was loaded."""

from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

from taskmill.adapters.fastmcp.tools import FastMCPTools

__all__ = ["NewTools"]


class NewTools:
    """Learns from what `tools/list` is answered with, before `ToolListing` shapes it."""

    def __init__(self, tools: FastMCPTools) -> None:
        self._tools = tools

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Pass everything on."""
        result = await call_next(ctx)
        if ctx.method == "tools/list" and isinstance(result, dict):
            await self._tools.collect_unknown([tool["name"] for tool in result.get("tools", ())])
        return result
