"""Tasks of revision 2025-11-25 on a FastMCP server: as `server/handlers/tasks_2025.py`, but a call goes through
FastMCP's middleware and checks to the extension, which creates the task and leaves it here.

FastMCP's handler may return the result of a tool only, so the handle takes another way back.
"""

from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp_types import CallToolResult

from taskmill.engine.record import TaskView
from taskmill.server.handlers.tasks_2025 import Tasks2025, not_created

__all__ = ["FastMCPTasks2025", "leave_task"]


@dataclass
class _Created:
    """Where the extension leaves the task of the present call."""

    view: TaskView | None = None


_created: ContextVar[_Created | None] = ContextVar("taskmill_created", default=None)


def leave_task(view: TaskView) -> CallToolResult:
    """Have a call answered with the handle of this task; returns what FastMCP passes on meanwhile."""
    slot = _created.get()
    assert slot is not None, "a call as a task passes the middleware first"
    slot.view = view
    return CallToolResult(content=[])


class FastMCPTasks2025(Tasks2025):
    """Server middleware, inside FastMCP's own, so that it sees these requests as any other."""

    async def create(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Answer a call with the handle of the task that the extension made of it.

        Raises:
            MCPError: it made none, because the arguments do not fit or middleware has refused the call.
        """
        slot = _Created()
        token = _created.set(slot)
        try:
            result = await call_next(replace(ctx))
        finally:
            _created.reset(token)
        if slot.view is not None:
            return await self.handle_of(slot.view, ctx)
        whole = CallToolResult.model_validate(result, by_name=False) if isinstance(result, dict) else result
        if isinstance(whole, CallToolResult) and whole.is_error:
            raise not_created(whole)
        return result
