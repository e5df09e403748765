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
from taskmill.server.protocol.arguments import faults_of, refused_arguments
from taskmill.server.protocol.results import error_result

__all__ = ["ContextMaker", "refused_call", "validated_arguments", "wrong_arguments"]

Request = ServerRequestContext[Any, Any]
ContextMaker = Callable[[Request, CallToolRequestParams], Context[Any, Any]]
log = structlog.get_logger()


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
        return refused_call(tool.name, exc, tool.parameters)


def wrong_arguments(tool: Tool | None, error: ValidationError) -> ToolError:
    """The error of a foreground call whose arguments do not fit. `tool`: None = it has just been removed."""
    name, schema = (error.title, None) if tool is None else (tool.name, tool.parameters)
    return ToolError(refused_arguments(name, faults_of(error), schema))


def refused_call(tool: str, exc: Exception, schema: Mapping[str, Any] | None = None) -> CallToolResult:
    """What a foreground call answers with when this exception came before the tool ran; a crash is logged.

    `schema`: of the tool's arguments, where they can be what is wrong.
    """
    if isinstance(exc, ValidationError):
        return error_result(refused_arguments(tool, faults_of(exc), schema))
    if isinstance(exc, ToolError) and not isinstance(exc, UnexpectedToolError):
        return error_result(f"Error executing tool {tool}: {exc}")
    log.error("tool.crashed_before_task", tool=tool, exc_info=exc)
    return error_result(f"Error executing tool {tool}")
