"""The private names of the `mcp` SDK that Taskmill uses: nowhere else. Each says what would let it go.

A release of the SDK may change any of them, so a new release has to be checked against this file only.
"""

from collections.abc import Mapping
from typing import Any

from mcp.client.session import ClientSession
from mcp.server._otel import OpenTelemetryMiddleware
from mcp.server.auth.provider import TokenVerifier
from mcp.server.auth.settings import AuthSettings
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.prompts import PromptManager
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import FuncMetadata
from mcp.server.session import ServerSession
from mcp.server.subscriptions import SubscriptionBus
from mcp.shared.dispatcher import CallOptions

__all__ = [
    "OpenTelemetryMiddleware",
    "auth_of",
    "cache_output_adapter",
    "connection_of",
    "context_parts",
    "is_authorization_server",
    "is_closed",
    "lowlevel_of",
    "prompts_of",
    "registered_tool",
    "replace_metadata",
    "request_of",
    "request_without_types",
    "server_of",
    "subscriptions_of",
    "use_authentication",
    "was_cancelled_by_client",
]

# `OpenTelemetryMiddleware` is in the public list of a server's middleware, but its module is private.
# The import can go when the SDK exports it.


def lowlevel_of(server: MCPServer[Any]) -> Server[Any]:
    """The low-level server, for handlers and transports of ours. It can go when `MCPServer` shows it."""
    return server._lowlevel_server


def auth_of(server: MCPServer[Any]) -> AuthSettings | None:
    """The settings of authentication, None if no request over HTTP needs a token.

    It can go when the SDK tells whether there is a verifier: settings without one check nothing.
    """
    return server.settings.auth if server._token_verifier else None


def use_authentication(server: MCPServer[Any], auth: AuthSettings | None, verifier: TokenVerifier | None) -> None:
    """Have requests over HTTP need a token. It can go when `streamable_http_app` takes what the constructor takes."""
    server.settings.auth = auth
    server._token_verifier = verifier


def is_authorization_server(server: MCPServer[Any]) -> bool:
    """Whether the server issues its tokens itself. It can go when the SDK shows the provider."""
    return server._auth_server_provider is not None


def subscriptions_of(server: MCPServer[Any]) -> SubscriptionBus:
    """The bus of `subscriptions/listen`. It can go when the SDK's constructor takes a handler beside the bus."""
    return server._subscriptions


def registered_tool(server: MCPServer[Any], name: str) -> Tool | None:
    """The registration of a tool. It can go when `MCPServer.add_tool` returns it."""
    return server._tool_manager.get_tool(name)


def prompts_of(server: MCPServer[Any]) -> PromptManager:
    """The prompts. It can go when the SDK refuses what `handlers/caller_errors.py` refuses."""
    return server._prompt_manager


def cache_output_adapter(tool: Tool) -> None:
    """Keep the adapter that converts the tool's results where Python looks first.

    The SDK has it in a private attribute of a pydantic model. Python finds that last, by a slow path, and three times
    a call: half of what a conversion costs. Where the SDK names it otherwise, nothing is gained and nothing is lost.
    It can go when the SDK keeps the adapter in a plain attribute.
    """
    metadata = tool.fn_metadata
    adapter = getattr(metadata, "_adapter", None)
    if adapter is not None:
        vars(metadata)["_adapter"] = adapter


def replace_metadata(tool: Tool, kind: type[FuncMetadata], **more: Any) -> None:
    """Give a tool metadata of another class, with the same fields but for `more`, and with the same adapter.

    To make an adapter is most of what a registration costs, and `kind(...)` would make it again. It can go when the SDK
    takes a function that converts results.
    """
    known = tool.fn_metadata
    fields = {name: getattr(known, name) for name in FuncMetadata.model_fields}
    made = kind.model_construct(**{**fields, **more})
    if made.output_model is known.output_model:
        made._adapter = known._adapter
    tool.fn_metadata = made


def context_parts(context: Context[Any, Any]) -> dict[str, Any]:
    """What a context was made from, to make one of another class. It can go when the SDK takes a class of contexts."""
    return {
        "request_context": context._request_context,
        "mcp_server": context._mcp_server,
        "input_params": context._input_params,
        "subscriptions": context._subscriptions,
    }


def request_of(context: Context[Any, Any]) -> ServerRequestContext[Any, Any] | None:
    """The request of a context. The public property raises where there is none; it can go when that can be asked."""
    return context._request_context


def server_of(context: Context[Any, Any]) -> MCPServer[Any] | None:
    """The server of a context. The public property raises where there is none; it can go when that can be asked."""
    return context._mcp_server


def connection_of(session: ServerSession) -> Connection:
    """The connection of a request, which outlives it. It can go when the SDK shows it to middleware."""
    return session._connection


def was_cancelled_by_client(session: ServerSession) -> bool:
    """Whether the client sent `notifications/cancelled`. It can go when the SDK has a public way to ask."""
    cancelled = getattr(session._request_outbound, "cancel_requested", None)
    return cancelled is not None and bool(cancelled.is_set())


def is_closed(session: ClientSession) -> bool:
    """Whether the other end of a client's session has gone. It can go when a session tells it."""
    return bool(getattr(session._dispatcher, "_closed", False))


async def request_without_types(session: ClientSession, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Send a client's request whose result the SDK does not know, and return that result as JSON.

    The SDK knows revision 2025-11-25 without its tasks, and refuses a task as the result of a call. It can go when
    `send_request` returns results that it has no type for.
    """
    data: dict[str, Any] = {"method": method, "params": dict(params)}
    options: CallOptions = {}
    session._stamp(data, options)
    return await session._dispatcher.send_raw_request(method, data["params"], options)
