"""A way past the SDK for the commonest request there is: a poll, `tasks/get` of 2026-07-28, as clients write it.

It answers what it fully understands and what goes well; every other request, and every error, is the SDK's to answer.
It stands behind the checks of tokens and scopes and asks the SDK's own check of Host, Origin and content type.
"""

import json
from typing import Any

from mcp.server._otel import OpenTelemetryMiddleware  # no public name; it is in the public list of middleware
from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateBoundary
from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    PROTOCOL_VERSION_META_KEY,
    SERVER_INFO_META_KEY,
    ClientCapabilities,
    Implementation,
)
from mcp_types.version import LATEST_MODERN_VERSION
from opentelemetry import trace
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from windlass.engine.errors import WindlassError
from windlass.server.callers_faults import CallersFaults
from windlass.server.desk import Desk
from windlass.server.listing import ToolListing
from windlass.server.owner import owner
from windlass.server.tasks2025 import Tasks2025
from windlass.server.wire import EXTENSION, detailed_task

__all__ = ["FastGet"]

_METHOD = "tasks/get"
_LONGEST = 16 * 1024
_ASKED = frozenset({"content-type", "accept", "mcp-protocol-version", "mcp-method", "mcp-name", "host"})
_HARMLESS = (CallersFaults, OpenTelemetryMiddleware, ToolListing, Tasks2025, RequestStateBoundary)
"""Server middleware that a poll of 2026-07-28 passes unchanged; the first only makes spans."""
_META = frozenset({PROTOCOL_VERSION_META_KEY, CLIENT_CAPABILITIES_META_KEY, CLIENT_INFO_META_KEY})


class FastGet:
    """ASGI wrapper of the MCP endpoint."""

    def __init__(self, app: ASGIApp, desk: Desk, hosts: TransportSecuritySettings, server: Server[Any]) -> None:
        """While the author has put middleware around the methods of `server`, nothing is fast."""
        self._app = app
        self._desk = desk
        self._security = TransportSecurityMiddleware(hosts)
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a poll, or pass the request on."""
        named = self._named(scope)
        if named is None or await self._security.validate_request(Request(scope), is_post=True) is not None:
            await self._app(scope, receive, send)
            return
        message = await receive()
        reply = await self._reply(message, named)
        if reply is not None:
            length = str(len(reply)).encode()
            headers = [(b"content-length", length), (b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": reply})
            return
        first: list[Message] = [message]

        async def again() -> Message:
            return first.pop() if first else await receive()

        await self._app(scope, again, send)

    def _named(self, scope: Scope) -> str | None:
        """The task id that the headers of a poll name, '' if they leave it out; None = not for us."""
        if scope["method"] != "POST" or _is_traced():
            return None
        if not all(isinstance(one, _HARMLESS) for one in self._server.middleware):
            return None
        found: dict[str, str] = {}
        for raw_name, value in scope["headers"]:
            name = raw_name.decode("latin-1")
            if name in _ASKED:
                if name in found:
                    return None
                found[name] = value.decode("latin-1")
            elif name == "traceparent":
                return None
        accepted = {one.strip() for one in found.get("accept", "").split(",")}
        routed = found.get("mcp-protocol-version") == LATEST_MODERN_VERSION and found.get("mcp-method") == _METHOD
        # An empty name is no missing one: it contradicts the body, and the SDK's way says so.
        if not routed or not accepted >= {"application/json", "text/event-stream"} or found.get("mcp-name") == "":
            return None
        return found.get("mcp-name", "")

    async def _reply(self, message: Message, named: str) -> bytes | None:
        if message["type"] != "http.request" or message.get("more_body") or len(message["body"]) > _LONGEST:
            return None
        asked = _poll(message["body"])
        if asked is None or named not in ("", asked[1]):
            return None
        request_id, task_id = asked
        try:
            view = await self._desk.store.look(task_id, owner())
        except WindlassError:
            return None
        stamp = {SERVER_INFO_META_KEY: self._server.server_info_stamp}
        result = {**detailed_task(view), "resultType": "complete", "_meta": stamp}
        body = {"jsonrpc": "2.0", "id": request_id, "result": result}
        return json.dumps(body, separators=(",", ":")).encode()


def _is_traced() -> bool:
    """Whether somebody collects traces: the SDK makes a span of every request."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def _poll(body: bytes) -> tuple[int | str, str] | None:
    """Request id and task id of a poll that is written as the specification says, and has nothing beside that."""
    try:
        request: Any = json.loads(body)
        params, request_id = request["params"], request["id"]
        task_id, meta = params["taskId"], params["_meta"]
        declared = meta[CLIENT_CAPABILITIES_META_KEY]["extensions"][EXTENSION]
        plain = request.keys() == {"jsonrpc", "id", "method", "params"} and params.keys() == {"taskId", "_meta"}
        revision = meta[PROTOCOL_VERSION_META_KEY]
        if not plain or not meta.keys() <= _META or not isinstance(declared, dict):
            return None
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return None
    if (request["jsonrpc"], request["method"], revision) != ("2.0", _METHOD, LATEST_MODERN_VERSION):
        return None
    if type(request_id) not in (int, str) or not isinstance(task_id, str) or len(task_id) > 256:
        return None
    fits = _fits(ClientCapabilities, meta[CLIENT_CAPABILITIES_META_KEY])
    if CLIENT_INFO_META_KEY in meta:
        fits = fits and _fits(Implementation, meta[CLIENT_INFO_META_KEY])
    return (request_id, task_id) if fits else None


def _fits(shape: type[BaseModel], value: Any) -> bool:
    try:
        shape.model_validate(value, by_name=False)
    except ValidationError:
        return False
    return True
