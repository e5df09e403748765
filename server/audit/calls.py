"""Records calls of tools that make no task; a task is recorded where it is created."""

from collections.abc import Callable
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext

from taskmill.store.audit.records import Action, Outcome, current_actor, record

__all__ = ["AuditedCalls"]


class AuditedCalls:
    """Server middleware."""

    def __init__(self, find: Callable[[str], object | None]) -> None:
        """`find`: the task tool of a name, None = that tool makes no task."""
        self._find = find

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Pass everything on."""
        if ctx.method != "tools/call" or current_actor() is None:
            return await call_next(ctx)
        name = (ctx.params or {}).get("name")
        if not isinstance(name, str) or self._find(name) is not None:
            return await call_next(ctx)
        outcome = Outcome.FAILED
        try:
            result = await call_next(ctx)
            outcome = Outcome.FAILED if _is_error(result) else Outcome.OK
            return result
        finally:
            record(Action.TOOL_CALLED, outcome=outcome, tool=name)


def _is_error(result: HandlerResult) -> bool:
    flag = result.get("isError") if isinstance(result, dict) else getattr(result, "is_error", False)
    return flag is True
