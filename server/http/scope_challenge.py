"""HTTP's answer to a token that lacks a scope: 403 with a challenge that names it, before the call becomes a stream.

This check only comes earlier: `submission.py` checks every call, of any transport.
"""

from typing import Any

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.routes import build_resource_metadata_url
from mcp.server.auth.settings import AuthSettings
from pydantic import AnyHttpUrl
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskmill.engine.errors import ScopeMissing
from taskmill.server.auth.scopes import require_scopes
from taskmill.server.tool_host import TaskTools
from taskmill.store.audit.records import record_refusal_of
from taskmill.store.formats.json_text import read_json

__all__ = ["ScopeChallenge", "may_lack_scope", "metadata_url_of"]

_LONGEST_READ = 1024 * 1024
"""Bytes of a body that are read ahead; a call with a longer one is refused later, inside its reply."""


def may_lack_scope(scope: Scope, tools: TaskTools) -> bool:
    """Whether a request may lack a scope: it has a user, and a tool of the server needs scopes."""
    return isinstance(scope.get("user"), AuthenticatedUser) and tools.has_scoped


def metadata_url_of(auth: AuthSettings | None) -> AnyHttpUrl | None:
    """The address of the protected-resource metadata that a challenge names; None = there is none."""
    return build_resource_metadata_url(auth.resource_server_url) if auth and auth.resource_server_url else None


class ScopeChallenge:
    """ASGI wrapper of the MCP endpoint, behind the check of tokens."""

    def __init__(self, app: ASGIApp, tools: TaskTools, auth: AuthSettings | None) -> None:
        self._app = app
        self._tools = tools
        self._metadata_url = metadata_url_of(auth)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it."""
        if scope.get("method") != "POST" or not may_lack_scope(scope, self._tools):
            await self._app(scope, receive, send)
            return
        messages, body = await _read_ahead(receive)
        try:
            self._check(body, scope["user"].scopes)
        except ScopeMissing as missing:
            record_refusal_of(missing)
            await self._refusal(missing)(scope, receive, send)
            return

        async def receive_again() -> Message:
            return messages.pop(0) if messages else await receive()

        await self._app(scope, receive_again, send)

    def _check(self, body: bytes, granted: list[str]) -> None:
        name = _called_tool(body)
        if name is not None and (entry := self._tools.find(name)) is not None:
            require_scopes(name, entry.policy, {"scopes": granted})

    def _refusal(self, missing: ScopeMissing) -> JSONResponse:
        scopes = " ".join(missing.facts["scopes"])
        parts = ['error="insufficient_scope"', f'scope="{scopes}"']
        if self._metadata_url:
            parts.append(f'resource_metadata="{self._metadata_url}"')
        body = {"error": "insufficient_scope", "error_description": str(missing), "scope": scopes}
        return JSONResponse(body, status_code=403, headers={"WWW-Authenticate": f"Bearer {', '.join(parts)}"})


async def _read_ahead(receive: Receive) -> tuple[list[Message], bytes]:
    """The messages that were received, to be passed on, and the body; all of it unless it is very long."""
    messages: list[Message] = []
    body = b""
    while True:
        message = await receive()
        messages.append(message)
        body += message.get("body", b"")
        if message["type"] != "http.request" or not message.get("more_body") or len(body) > _LONGEST_READ:
            return messages, body


def _called_tool(body: bytes) -> str | None:
    """The tool that a request calls, None if it is not a call of a tool, or cannot be read."""
    try:
        request: Any = read_json(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(request, dict) or request.get("method") != "tools/call":
        return None
    params = request.get("params")
    name = params.get("name") if isinstance(params, dict) else None
    return name if isinstance(name, str) else None
