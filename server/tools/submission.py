"""Turns a call of a task tool into a task: checks the call, asks what must be asked first, and stores it for a worker.

Knows no protocol revision; the handlers of the client classes call it.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import structlog
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.resolve import resolve_arguments
from mcp.server.mcpserver.tools import Tool
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolRequestParams, CallToolResult, InputRequiredResult, TextContent
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from taskmill.engine.record import NewTask, TaskView
from taskmill.server.auth.principal import lister, owner
from taskmill.server.auth.scopes import require_scopes, who_calls
from taskmill.server.context.context import Context
from taskmill.server.protocol.errors import wire_errors
from taskmill.server.protocol.questions import with_tool_answers
from taskmill.server.tools.call_keys import CallKeys, keys_of_call
from taskmill.server.tools.registry import TaskTool
from taskmill.server.tools.runtime import ServerRuntime
from taskmill.server.tools.tracing import trace_of_call

__all__ = ["ContextMaker", "Submission"]

Request = ServerRequestContext[Any, Any]
ContextMaker = Callable[[Request, CallToolRequestParams], Context[Any, Any]]

log = structlog.get_logger()
_LONGEST_KEEP = 10 * 365 * 24 * 3600 * 1000
"""Milliseconds: the longest retention a client may ask for; the store's own limit is shorter."""


class Submission:
    """Creates the tasks of one server."""

    def __init__(self, runtime: ServerRuntime, make_context: ContextMaker) -> None:
        """`make_context`: the author's context of a call, for what is asked before its task exists."""
        self._runtime = runtime
        self._make_context = make_context

    async def submit(
        self,
        entry: TaskTool,
        params: CallToolRequestParams,
        ctx: Request,
        *,
        keep_ms: float | None = None,
        asks_by_tools: bool = False,
    ) -> TaskView | CallToolResult | InputRequiredResult:
        """A new task; or, where there can be none, what a foreground call would have answered.

        Nothing is stored unless the arguments fit the tool's schema and, from 2026 on, every question of its
        `Resolve(...)` parameters is answered (tasks extension, "Task Creation": multi-round exchanges first).
        `keep_ms`: the retention that the client asks for, None = the policy's. `asks_by_tools`: questions can be put
        to the client's model, so that the client itself need not be able to ask its user.

        Raises:
            MCPError: the store refused or failed, or a resolver needs a capability the client lacks.
        """
        runtime, policy = self._runtime, entry.policy
        caller = who_calls(over_http=runtime.serves_http or ctx.request is not None, visible=runtime.visible_claims)
        with wire_errors():
            require_scopes(entry.tool.name, policy, caller)
        resolves = ctx.protocol_version in MODERN_PROTOCOL_VERSIONS and (_can_elicit(ctx) or not asks_by_tools)
        before = await self._before(entry, params, ctx, resolves=resolves)
        if not isinstance(before, CallKeys):
            return before
        with wire_errors():
            store = runtime.store
            task_id, payload = store.new_id(policy.queue), _payload_of(params, ctx, asks_by_tools=asks_by_tools)
            task = NewTask(
                id=task_id,
                tool=entry.tool.name,
                principal=owner(ctx),
                listed_for=lister(ctx),
                payload=store.pack(task_id, {**payload, "caller": caller}),
                queue=policy.queue,
                retention=policy.kept_for if keep_ms is None else timedelta(milliseconds=min(keep_ms, _LONGEST_KEEP)),
                poll_interval=policy.polled_every,
                retries=policy.retries,
                deadline=policy.time_limit,
                idempotency=before.once,
                idempotency_of=before.once_of,
                priority=policy.priority,
                lane=before.lane,
            )
            view = await store.create(task)
        made = view.record.id == task_id
        log.info("task.created" if made else "task.attached", task_id=view.record.id, tool=entry.tool.name)
        return view

    async def _before(
        self, entry: TaskTool, params: CallToolRequestParams, ctx: Request, *, resolves: bool
    ) -> CallToolResult | InputRequiredResult | CallKeys:
        """What is wrong or still to be asked before the task may exist; its keys if nothing is."""
        tool = entry.tool
        try:
            validated = tool.fn_metadata.validate_arguments(params.arguments or {})
            if resolves and tool.resolved_params:
                context = self._make_context(ctx, params)
                resolved = await resolve_arguments(tool.resolved_params, tool.resolver_plans, validated, context)
                if isinstance(resolved, InputRequiredResult):
                    return resolved
            with wire_errors():
                return keys_of_call(entry.policy, params, validated, owner(ctx))
        except MCPError:
            raise
        except UnexpectedToolError as exc:
            return _crashed(tool, exc)
        except (ValidationError, ToolError) as exc:
            return _tool_error(f"Error executing tool {tool.name}: {exc}")
        except Exception as exc:
            return _crashed(tool, exc)


def _crashed(tool: Tool, exc: Exception) -> CallToolResult:
    log.error("tool.crashed_before_task", tool=tool.name, exc_info=exc)
    return _tool_error(f"Error executing tool {tool.name}")


def _tool_error(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)


def _can_elicit(ctx: Request) -> bool:
    """Whether the client can ask its user."""
    declared = ctx.session.client_capabilities
    return declared is not None and declared.elicitation is not None


def _payload_of(params: CallToolRequestParams, ctx: Request, *, asks_by_tools: bool) -> dict[str, Any]:
    """What a worker needs to make this very call: arguments, settled questions, who the client was.

    `asks_by_tools`: questions can be put to the client's model, whatever the client declared.
    """
    payload: dict[str, Any] = {"arguments": params.arguments or {}}
    if trace := trace_of_call(ctx.meta):
        payload["trace"] = trace
    inputs = params.model_dump(
        by_alias=True, mode="json", exclude_none=True, include={"input_responses", "request_state"}
    )
    if inputs:
        payload["inputs"] = inputs
    capabilities = ctx.session.client_capabilities
    if capabilities is not None or asks_by_tools:
        declared = capabilities.model_dump(by_alias=True, mode="json", exclude_none=True) if capabilities else {}
        if asks_by_tools:
            declared = with_tool_answers(declared)
        payload["client"] = {"capabilities": declared}
    if ctx.session.client_params is not None:
        info = ctx.session.client_params.client_info.model_dump(by_alias=True, mode="json", exclude_none=True)
        payload.setdefault("client", {})["info"] = info
    return payload
