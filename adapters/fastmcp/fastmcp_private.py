"""The private names of FastMCP that Taskmill uses: nowhere else. Each says what would let it go.

A release of FastMCP may change any of them, so a new release has to be checked against this file only.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from contextvars import ContextVar
from functools import lru_cache
from time import monotonic
from typing import Any, TypeVar

from fastmcp import FastMCP
from fastmcp.server import dependencies
from fastmcp.server.auth import AuthProvider
from fastmcp.server.context import Context
from fastmcp.server.dependencies import (
    _background_task_headers,
    _background_task_session_id,
    _is_client_tool_call,
    without_injected_parameters,
)
from fastmcp.server.extensions import ServerExtension
from fastmcp.server.middleware import Middleware
from fastmcp.server.mixins.mcp_operations import _normalize_call_tool_result
from fastmcp.server.providers.fastmcp_provider import FastMCPProviderTool
from fastmcp.tools import base as tools_base
from fastmcp.tools.base import Tool, ToolResult
from fastmcp.tools.function_tool import (
    FunctionTool,
    _resolve_param_hints,
    _strict_input_validation,
    _validate_input,
)
from fastmcp.utilities.tasks import TASKS_EXTENSION_ID
from fastmcp.utilities.versions import VersionSpec
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp_types import CallToolResult
from pydantic import AnyHttpUrl, TypeAdapter

__all__ = [
    "call_result",
    "carried_caller",
    "is_client_call",
    "is_raw_structured",
    "keep_listed",
    "keep_session_id",
    "lifespan_of",
    "load_state_store",
    "lowlevel_of",
    "masks_errors",
    "replace_http_app",
    "replace_tasks_extension",
    "resource_url_of",
    "sdk_request",
    "seals_request_state",
    "shared_dependencies",
    "show_task_in_contexts",
    "tasks_extension_of",
    "tool_behind",
    "validate_arguments",
    "wait_until_started",
]

Component = TypeVar("Component")
_OF_CALLS = ("__call__", "on_message", "on_request", "on_call_tool")


def lowlevel_of(server: FastMCP[Any]) -> Server[Any]:
    """The SDK's low-level server, for handlers and transports of ours. It can go when `FastMCP` shows it."""
    return server._mcp_server


def lifespan_of(server: FastMCP[Any]) -> AbstractAsyncContextManager[None]:
    """The lifespans of the author, of the providers and of the extensions, entered once however often it is asked.

    It can go when `FastMCP` has a public way to enter them without a transport.
    """
    return server._lifespan_manager()


async def wait_until_started(server: FastMCP[Any]) -> None:
    """Wait until all lifespans are entered. It can go when extensions start behind the providers."""
    await server._started.wait()


def tasks_extension_of(server: FastMCP[Any]) -> ServerExtension | None:
    """The extension that runs the tasks of a server. It can go when `FastMCP` tells its extensions."""
    return server._extensions.get(TASKS_EXTENSION_ID)


def replace_tasks_extension(server: FastMCP[Any], extension: ServerExtension) -> None:
    """Have `extension` in the place of whichever runs the tasks of a server.

    It can go when `add_extension` takes `replace=True`, or an extension can be removed.
    """
    for method in server._extension_methods.pop(TASKS_EXTENSION_ID, ()):
        server._mcp_server._request_handlers.pop(method, None)
    server._extensions.pop(TASKS_EXTENSION_ID, None)
    server.add_extension(extension)


def keep_listed(provider: Any, kind: str, found: list[Component]) -> list[Component]:
    """Have a proxy find single components among these, which it has just listed: `resources`, `templates`, `prompts`.

    It can go when a proxy can be given other classes of components.
    """
    from fastmcp.server.providers import proxy  # only servers behind Taskmill need it

    setattr(provider, f"_{kind}_cache", proxy._CacheEntry(found, monotonic()))
    return found


def seals_request_state(server: FastMCP[Any]) -> bool:
    """Whether the author chose how `requestState` is sealed. It can go when `FastMCP` tells it."""
    return server._request_state_security is not None


def load_state_store(server: FastMCP[Any]) -> None:
    """Import what session state needs, a second's work, before the first call does. It can go when FastMCP does so."""
    _ = server._state_store


def masks_errors(server: FastMCP[Any]) -> bool:
    """Whether callers may not read what a tool raised. It can go when `FastMCP` tells it."""
    return bool(server._mask_error_details)


def sdk_request(context: Context) -> ServerRequestContext[Any, Any] | None:
    """The SDK's request of a context, None outside of requests. It can go when the escape hatch has a public name."""
    request = context.request_context
    return None if request is None else request._srctx


def is_client_call() -> bool:
    """Whether the tool that is called is the one that the client named, and not one that a tool or middleware calls.

    It can go when FastMCP tells its interceptors.
    """
    return _is_client_tool_call()


def call_result(result: ToolResult) -> CallToolResult:
    """The protocol's form of a result. It can go when `to_mcp_result` returns one form only."""
    return _normalize_call_tool_result(result.to_mcp_result())


def is_raw_structured(result: ToolResult) -> bool:
    """Whether structured content of any kind is passed on as it is. It can go with FastMCP 4.1, which has none such."""
    kind: Any = getattr(tools_base, "RawStructuredToolResult", None)
    return kind is not None and isinstance(result, kind)


def validate_arguments(tool: FunctionTool, arguments: Mapping[str, Any]) -> None:
    """Check the arguments of a call as the tool would, without calling it.

    It can go when a tool can be asked.

    Raises:
        pydantic.ValidationError: they do not fit.
    """
    _validate_input(_probe_of(tool.fn, tool.run_in_thread), dict(arguments), strict=_strict_input_validation())


def changes_calls(middleware: Middleware) -> bool:
    """Whether middleware has a part in calls of tools, so that it may change their arguments.

    It can go when middleware tells what it is for.
    """
    kind = type(middleware)
    return any(getattr(kind, name) is not getattr(Middleware, name) for name in _OF_CALLS)


async def tool_behind(tool: Tool) -> Tool | None:
    """The tool that one of a mounted server is there; None = middleware on the way may change its arguments.

    It can go when a mounted tool shows what it stands for.
    """
    found: Tool | None = tool
    while isinstance(found, FastMCPProviderTool):
        child = found._server
        if any(changes_calls(one) for one in child.middleware):
            return None
        version = VersionSpec(eq=found.version) if found.version else None
        found = await child.get_tool(found._original_name or "", version)
    return found


@lru_cache(maxsize=5000)
def _probe_of(function: Callable[..., Any], run_in_thread: bool) -> TypeAdapter[Any]:
    """A function of the same signature that does nothing, as FastMCP validates its arguments."""
    wrapped = without_injected_parameters(function, run_in_thread=run_in_thread)
    signature = inspect.signature(wrapped)

    def probe(*_arguments: Any, **_named: Any) -> None:
        return None

    hints = _resolve_param_hints(wrapped)
    probe.__name__ = getattr(function, "__name__", probe.__name__)  # the error names it
    probe.__signature__ = signature  # type: ignore[attr-defined]  # what inspect reads
    probe.__annotations__ = {name: hint for name, hint in hints.items() if name in signature.parameters}
    return TypeAdapter(probe)  # type: ignore[arg-type]  # pydantic takes functions; its types do not say so


def resource_url_of(auth: AuthProvider, path: str) -> AnyHttpUrl | None:
    """The address of the MCP endpoint as tokens name it. It can go when `AuthProvider` has it as a public method."""
    return auth._get_resource_url(path)


@contextmanager
def carried_caller(headers: Mapping[str, str] | None, session_id: str | None) -> Iterator[None]:
    """What `get_http_headers()` and `ctx.session_id` find in a worker. It can go when FastMCP has a public way in."""
    headers_token = _background_task_headers.set(None if headers is None else dict(headers))
    session_token = _background_task_session_id.set(session_id)
    try:
        yield
    finally:
        _background_task_session_id.reset(session_token)
        _background_task_headers.reset(headers_token)


def keep_session_id(connection: Connection, session_id: str) -> None:
    """Have `ctx.session_id`, and the state kept under it, be those of another connection.

    It can go when FastMCP asks the connection only for its session id.
    """
    connection.state["_fastmcp_state_prefix"] = session_id


@contextmanager
def shared_dependencies(server: FastMCP[Any]) -> Iterator[None]:
    """What `Shared()` dependencies of the lifespan are found by: FastMCP does it for each request.

    It can go when `call_tool` does it.
    """
    tokens = [(variable, variable.set(value)) for variable, value in (server._shared_context_snapshot or {}).items()]
    try:
        yield
    finally:
        for variable, token in reversed(tokens):
            variable.reset(token)


_eliciting: ContextVar[bool] = ContextVar("taskmill_eliciting", default=False)
_task_id_of_worker: Callable[[], str | None] = lambda: None  # noqa: E731 - replaced below, once


def show_task_in_contexts(task_id: Callable[[], str | None], progress: type[dependencies.InMemoryProgress]) -> None:
    """Have every `Context` of a worker know its task, `elicit` work there, and `Progress` be `progress`.

    `call_tool` makes a new context for each call, and no hook sees it. Outside of tasks nothing changes. It can go when
    a context inherits the id of a task, when `elicit` in a task is left to the session, and when there is a hook for
    progress beside that for contexts.
    """
    global _task_id_of_worker
    is_first = not hasattr(Context, "_taskmill_elicit")
    _task_id_of_worker = task_id
    dependencies.InMemoryProgress = progress  # type: ignore[misc]  # FastMCP looks it up here
    if not is_first:
        return
    plain = Context.elicit
    Context._taskmill_elicit = plain  # type: ignore[attr-defined]  # the mark that this has been done

    async def elicit(self: Context, *args: Any, **kwargs: Any) -> Any:
        token = _eliciting.set(True)
        try:
            return await plain(self, *args, **kwargs)
        finally:
            _eliciting.reset(token)

    def task_id_of(context: Context) -> str | None:
        return context._task_id or _task_id_of_worker()

    def is_background_task(context: Context) -> bool:
        # FastMCP refuses to elicit in a task of its own engine. Here it works, by a question of the task.
        in_task = context._task_id is not None
        return in_task or (_task_id_of_worker() is not None and not _eliciting.get())

    Context.elicit = elicit  # type: ignore[method-assign]
    Context.task_id = property(task_id_of)  # type: ignore[assignment, method-assign]
    Context.is_background_task = property(is_background_task)  # type: ignore[assignment, method-assign]


def replace_http_app(server: FastMCP[Any], make: Callable[..., Any]) -> None:
    """Have `server.http_app(...)` make its application by `make(original, ...)`, also where FastMCP itself calls it.

    It can go when an extension can put an application before the endpoint.
    """
    original = server.http_app

    def http_app(*args: Any, **kwargs: Any) -> Any:
        return make(original, *args, **kwargs)

    server.http_app = http_app  # type: ignore[method-assign]
