"""ASGI middleware of every request: which transport serves it, and clients that disconnect before it ends."""

from collections.abc import Callable

import anyio
from mcp_types import INVALID_REQUEST
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["ClientDisconnects", "EmptyRefusals", "EraRouter", "path_of"]

_VERSION_HEADER = b"mcp-protocol-version"
_WORDS = {
    405: "The MCP endpoint of this revision takes POST only.",
    406: "Accept must name application/json and text/event-stream.",
}
_CLOSED = "; the handler is closed"
"""uvloop's error for a write to a closed connection. It can go when uvicorn handles that error itself."""
_DISCONNECT_TIMEOUT = 5.0
"""Seconds until it is clear that uvicorn will not send `http.disconnect`.

When a client sends several requests ahead of the responses, uvicorn's httptools protocol notifies only the last one,
because `connection_lost` marks `self.cycle` alone. For the others it logs that the response was not completed; no
application can prevent that.
"""


def path_of(scope: Scope) -> str:
    """The path inside this application, wherever it is mounted."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


class EraRouter:
    """Passes requests that name a revision before 2026, or none, to the session endpoint, all others to the SDK.

    Without a store all go to the SDK, whose sessions are in the memory of this process.
    """

    def __init__(self, *, legacy: ASGIApp, modern: ASGIApp, keeps_sessions: Callable[[], bool]) -> None:
        """`keeps_sessions`: whether there is a store for sessions; asked at each request."""
        self._legacy = legacy
        self._modern = modern
        self._keeps_sessions = keeps_sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        version = next((value.decode("latin-1") for name, value in scope["headers"] if name == _VERSION_HEADER), None)
        is_legacy = version is None or version in HANDSHAKE_PROTOCOL_VERSIONS
        await (self._legacy if is_legacy and self._keeps_sessions() else self._modern)(scope, receive, send)


class EmptyRefusals:
    """ASGI wrapper of the SDK's endpoint: puts words into refusals that have none. It can go when the SDK has them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        refused: Message | None = None

        async def send_with_words(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] in _WORDS:
                refused = message
            elif refused is None:
                await send(message)
            else:
                await _with_words(refused, message)(scope, receive, send)

        await self._app(scope, receive, send_with_words)


def _with_words(start: Message, body: Message) -> Response:
    status, headers = start["status"], Headers(raw=start["headers"])
    if body.get("body"):
        return Response(body["body"], status, headers)
    error = {"code": INVALID_REQUEST, "message": _WORDS[status]}
    kept = {name: value for name, value in headers.items() if not name.startswith("content-")}
    return JSONResponse({"jsonrpc": "2.0", "id": None, "error": error}, status, kept)


class ClientDisconnects:
    """Ends a request whose client has disconnected: that is no crash of the server, and nothing to log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; one that ends in a disconnect needs no response."""
        try:
            await self._app(scope, receive, send)
        except ClientDisconnect:
            return
        except RuntimeError as exc:
            if not str(exc).endswith(_CLOSED):
                raise
            # uvicorn logs an error for an application that returns before it has received `http.disconnect`.
            with anyio.move_on_after(_DISCONNECT_TIMEOUT):
                while (await receive())["type"] != "http.disconnect":
                    pass
