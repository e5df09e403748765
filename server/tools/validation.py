"""What a call of an SDK tool must pass before its task may exist, and the results of those that do not pass."""

from collections.abc import Callable, Mapping
from typing import Any

import structlog
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.resolve import resolve_arguments
from mcp.server.mcpserver.tools import Tool
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolRequestParams, CallToolResult, InputRequiredResult
from pydantic import ValidationError

from taskmill.server.context.context import Context
from taskmill.server.protocol.results import error_result

__all__ = ["ContextMaker", "refused_arguments", "refused_call", "validated_arguments"]

Request = ServerRequestContext[Any, Any]
ContextMaker = Callable[[Request, CallToolRequestParams], Context[Any, Any]]
log = structlog.get_logger()
_LONGEST_VALUE = 60


async def validated_arguments(
    tool: Tool, params: CallToolRequestParams, ctx: Request, make_context: ContextMaker, *, resolves: bool
) -> Mapping[str, Any] | CallToolResult | InputRequiredResult:
    """See `ToolHost.validate`. `make_context`: the author's context of the call, for its `Resolve(...)` parameters."""
    try:
        arguments: Mapping[str, Any] = tool.fn_metadata.validate_arguments(params.arguments or {})
        if resolves and tool.resolved_params:
            context = make_context(ctx, params)
            resolved = await resolve_arguments(tool.resolved_params, tool.resolver_plans, arguments, context)
            if isinstance(resolved, InputRequiredResult):
                return resolved
        return arguments
    except MCPError:
        raise
    except Exception as exc:
        return refused_call(tool.name, exc)


def refused_arguments(tool: str, error: ValidationError) -> str:
    """What the caller of a tool reads whose arguments do not fit: what is wrong with which."""
    return f"Error executing tool {tool}: {'; '.join(_fault_text(fault) for fault in error.errors(include_url=False))}"


def refused_call(tool: str, exc: Exception) -> CallToolResult:
    """What a foreground call answers with when this exception came before the tool ran; a crash is logged."""
    if isinstance(exc, ValidationError):
        return error_result(refused_arguments(tool, exc))
    if isinstance(exc, ToolError) and not isinstance(exc, UnexpectedToolError):
        return error_result(f"Error executing tool {tool}: {exc}")
    log.error("tool.crashed_before_task", tool=tool, exc_info=exc)
    return error_result(f"Error executing tool {tool}")


def _fault_text(fault: Mapping[str, Any]) -> str:
    """`n should be a valid integer, not 'abc'`. The value is the caller's own, and shown where it is short."""
    where = ".".join(str(part) for part in fault["loc"]) or "the arguments"
    text, value = str(fault["msg"]), repr(fault.get("input"))
    if fault["type"] == "missing":
        return f"{where} is required"
    if not text.startswith("Input should "):
        return f"{where}: {text.removeprefix('Value error, ').removeprefix('Assertion failed, ')}"
    is_shown = isinstance(fault.get("input"), str | int | float) and len(value) <= _LONGEST_VALUE
    return f"{where} {text.removeprefix('Input ')}{f', not {value}' if is_shown else ''}"
