"""FastMCP servers that these tests serve: as their authors would write them, without a word of Taskmill."""

from typing import Any

from fastmcp import Context, FastMCP
from fastmcp.dependencies import Depends, Progress

__all__ = ["shop"]


def factor() -> float:
    """A dependency."""
    return 1.5


def shop(**options: Any) -> FastMCP[Any]:
    """A server with a tool for each thing a tool of FastMCP does."""
    mcp: FastMCP[Any] = FastMCP("Shop", **options)

    @mcp.tool(task=True)
    async def build(parts: int, ctx: Context, times: float = Depends(factor)) -> str:
        """Report progress and log, with a dependency."""
        for part in range(parts):
            await ctx.report_progress(part, parts, f"part {part}")
            await ctx.info(f"part {part}")
        return f"built {parts * times}"

    @mcp.tool(task=True)
    async def count(items: int, progress: Progress = Progress()) -> dict[str, int]:  # noqa: B008 - FastMCP's way
        """Report progress by the dependency."""
        await progress.set_total(items)
        for _ in range(items):
            await progress.increment()
            await progress.set_message("counting")
        return {"items": items}

    @mcp.tool(task=True)
    async def colour(ctx: Context) -> str:
        """Ask the user."""
        answer = await ctx.elicit("Which colour?", response_type=str)
        return f"{answer.action} {getattr(answer, 'data', None)}"

    @mcp.tool(task=True)
    async def about(ctx: Context) -> dict[str, Any]:
        """What the context knows."""
        return {"is_task": ctx.is_background_task, "task_id": ctx.task_id, "transport": ctx.transport}

    @mcp.tool
    async def now() -> str:
        """No task."""
        return "now"

    return mcp
