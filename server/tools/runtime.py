"""Where calls of task tools are handed in: checks them, settles what must be asked first, and creates the task.

Knows no protocol revision; the files of the client classes call it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
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

from taskmill.engine.errors import DuplicateTool, PolicyError, StoreUnavailable
from taskmill.engine.policy import TaskConfig
from taskmill.engine.record import NewTask, TaskView
from taskmill.server.auth.principal import lister, owner
from taskmill.server.auth.scopes import require_scopes, who_calls
from taskmill.server.context.context import Context
from taskmill.server.protocol.errors import wire_errors
from taskmill.server.settings import ServerSettings
from taskmill.server.tools.abandoned_calls import AbandonedCalls
from taskmill.server.tools.at_hand import keep_at_hand
from taskmill.server.tools.backoff import plain_backoff
from taskmill.server.tools.call_keys import CallKeys, keys_of_call
from taskmill.server.tools.call_payload import can_elicit, payload_of
from taskmill.server.tools.import_path import refuse_hidden
from taskmill.store.opening import open_store
from taskmill.store.tasks.tasks import TaskStore

__all__ = ["ContextMaker", "ServerRuntime", "TaskTool"]

ContextMaker = Callable[[ServerRequestContext[Any, Any], CallToolRequestParams], Context[Any, Any]]

log = structlog.get_logger()
_LONGEST_KEEP = 10 * 365 * 24 * 3600 * 1000
"""Milliseconds: what a client may wish for; the store's own limit is shorter."""


@dataclass(frozen=True, slots=True)
class TaskTool:
    """A task tool: the SDK's registration and the author's policy."""

    tool: Tool
    policy: TaskConfig


class ServerRuntime:
    """The task tools of one server, and its store while it is serving."""

    def __init__(self, visible_claims: Sequence[str] = ()) -> None:
        """`visible_claims`: what of a caller's token its tasks may see.

        Raises:
            PolicyError: a name instead of a list of names.
        """
        if isinstance(visible_claims, str):
            raise PolicyError(f"visible_claims must be a list of names, such as [{visible_claims!r}]")
        self.visible_claims = tuple(visible_claims)
        self.serves_http = False
        """Whether this process may be reached over HTTP: then no caller is trusted without a token."""
        self._tools: dict[str, TaskTool] = {}
        self._store: TaskStore | None = None
        self._closing: list[Callable[[], Awaitable[None]]] = []
        self.leaving: AbandonedCalls
        """Tasks whose clients have gone, while the server is serving."""
        self.settings = ServerSettings.model_construct()
        """Those of the process, while the server is serving."""
        self.lifespan_state: Any = None
        """What the author's lifespan yielded, while the server is serving."""

    @property
    def store(self) -> TaskStore:
        """The store.

        Raises:
            StoreUnavailable: the server is not serving (its lifespan has not been entered).
        """
        if self._store is None:
            raise StoreUnavailable("The task store is not open: the application did not run this server's lifespan.")
        return self._store

    @asynccontextmanager
    async def serving(self, settings: ServerSettings) -> AsyncIterator[TaskStore]:
        """Have the store open."""
        async with open_store(settings) as store:
            self._store, self.settings = store, settings
            self.leaving = AbandonedCalls(store, settings.drop_grace)
            try:
                yield store
            finally:
                self.leaving.close()
                self._store = None

    def on_close(self, close: Callable[[], Awaitable[None]]) -> None:
        """Have `close` called when the server stops serving."""
        self._closing.append(close)

    @asynccontextmanager
    async def open_with(self, lifespan_state: Any) -> AsyncIterator[None]:
        """Serve requests, with what the author's lifespan yielded."""
        self.lifespan_state = lifespan_state
        try:
            yield
        finally:
            for close in self._closing:
                await close()

    def add(self, tool: Tool, policy: TaskConfig) -> None:
        """Make a registered tool a task tool.

        Raises:
            DuplicateTool: there is one of that name.
            PolicyError: the policy does not fit the tool.
        """
        if tool.name in self._tools:
            raise DuplicateTool(f"Two task tools are named {tool.name!r}. Give one another name.")
        try:
            policy = plain_backoff(policy)
            policy.check_against(list(tool.parameters.get("properties", {})))
            if policy.isolation == "process":
                refuse_hidden(tool.fn)
        except PolicyError as exc:
            raise PolicyError(f"Tool {tool.name!r}: {exc}") from None
        keep_at_hand(tool)
        self._tools[tool.name] = TaskTool(tool, policy)

    def remove(self, name: str) -> None:
        """Forget a tool, if it is a task tool."""
        self._tools.pop(name, None)

    def find(self, name: str) -> TaskTool | None:
        """The task tool of that name."""
        return self._tools.get(name)

    @property
    def has_scoped(self) -> bool:
        """Whether any tool asks for scopes."""
        return any(entry.policy.scopes for entry in self._tools.values())

    def policies(self) -> Mapping[str, TaskConfig]:
        """Policy by tool name."""
        return {name: entry.policy for name, entry in self._tools.items()}

    async def submit(
        self,
        entry: TaskTool,
        params: CallToolRequestParams,
        ctx: ServerRequestContext[Any, Any],
        make_context: ContextMaker,
        *,
        keep_ms: float | None = None,
        asks_by_tools: bool = False,
    ) -> TaskView | CallToolResult | InputRequiredResult:
        """A new task; or, where there can be none, what a foreground call would have answered.

        Nothing is stored unless the arguments fit the tool's schema and, from 2026 on, every question of its
        `Resolve(...)` parameters is answered (tasks extension, "Task Creation": multi-round exchanges first).
        `keep_ms`: the retention that the client wishes, None = the policy's. `asks_by_tools`: questions can be put to
        the client's model, so that the client itself need not be able to ask its user.

        Raises:
            MCPError: the store refused or failed, or a resolver needs a capability the client lacks.
        """
        caller = who_calls(over_http=self.serves_http or ctx.request is not None, visible=self.visible_claims)
        with wire_errors():
            require_scopes(entry.tool.name, entry.policy, caller)
        resolves = ctx.protocol_version in MODERN_PROTOCOL_VERSIONS and (can_elicit(ctx) or not asks_by_tools)
        before = await _before(entry, params, ctx, make_context, resolves=resolves)
        if not isinstance(before, CallKeys):
            return before
        kept_for = entry.policy.kept_for if keep_ms is None else timedelta(milliseconds=min(keep_ms, _LONGEST_KEEP))
        with wire_errors():
            task_id, payload = self._new_id(entry), payload_of(params, ctx, asks_by_tools=asks_by_tools)
            task = NewTask(
                id=task_id,
                tool=entry.tool.name,
                principal=owner(ctx),
                listed_for=lister(ctx),
                payload=self.store.pack(task_id, {**payload, "caller": caller}),
                queue=entry.policy.queue,
                retention=kept_for,
                poll_interval=entry.policy.polled_every,
                retries=entry.policy.retries,
                deadline=entry.policy.time_limit,
                idempotency=before.once,
                idempotency_of=before.once_of,
                priority=entry.policy.priority,
                lane=before.lane,
            )
            view = await self.store.create(task)
        made = view.record.id == task_id
        log.info("task.created" if made else "task.attached", task_id=view.record.id, tool=entry.tool.name)
        return view

    def _new_id(self, entry: TaskTool) -> str:
        return self.store.new_id(entry.policy.queue)


async def _before(
    entry: TaskTool,
    params: CallToolRequestParams,
    ctx: ServerRequestContext[Any, Any],
    make_context: ContextMaker,
    *,
    resolves: bool,
) -> CallToolResult | InputRequiredResult | CallKeys:
    """What is wrong or still to be asked before the task may exist; its keys if nothing is."""
    tool = entry.tool
    try:
        validated = tool.fn_metadata.validate_arguments(params.arguments or {})
        if resolves and tool.resolved_params:
            context = make_context(ctx, params)
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
