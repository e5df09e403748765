"""What a client learns before it has a token: whose tokens are accepted, and which scopes there are (RFC 9728)."""

import json
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from mcp.server.auth.routes import build_resource_metadata_url
from pydantic import AnyHttpUrl
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskmill.server.auth.authentication import Authentication

__all__ = ["WELL_KNOWN", "OwnMetadata", "WithToolScopes"]

WELL_KNOWN = "/.well-known/oauth-protected-resource"
_HEADERS = {"Access-Control-Allow-Origin": "*", "Cache-Control": "no-store"}
"""The document is for everyone, pages included; it depends on the Host of the request, so no cache keeps it."""


class OwnMetadata:
    """The metadata of a server whose authentication the settings describe."""

    def __init__(self, authentication: Authentication, path: str, offered: Callable[[], Sequence[str]]) -> None:
        """`path`: the endpoint's; `offered`: scopes that tools ask for."""
        self._authentication = authentication
        self._path = path
        self._offered = offered

    def url(self, scope: Scope) -> str:
        """Where this request finds the document."""
        if self._authentication.resource is not None:
            return str(build_resource_metadata_url(AnyHttpUrl(self._authentication.resource)))
        scheme, host, _ = urlsplit(self._resource(scope))[:3]
        return f"{scheme}://{host}{scope.get('root_path', '')}{WELL_KNOWN}{self._path.rstrip('/')}"

    def route(self) -> Route:
        """The route of the document. A proxy may have cut the path of the endpoint, so any is answered."""

        async def document(request: Request) -> JSONResponse:
            authentication = self._authentication
            body: dict[str, Any] = {
                "resource": self._resource(request.scope),
                "authorization_servers": [authentication.issuer],
                "bearer_methods_supported": ["header"],
            }
            if scopes := list(dict.fromkeys((*authentication.required_scopes, *self._offered()))):
                body["scopes_supported"] = scopes
            return JSONResponse(body, headers=_HEADERS)

        return Route(WELL_KNOWN + "{path:path}", document, methods=["GET"])

    def _resource(self, scope: Scope) -> str:
        """The endpoint as this client has it: its Host was checked before. A name in `aud` that is it knows better.

        Only the operator knows what scheme a proxy in front of this server has.
        """
        if self._authentication.resource is not None:
            return self._authentication.resource
        host = Headers(scope=scope).get("host", "")
        path = scope.get("root_path", "") + self._path
        for name in self._authentication.audience:
            parts = urlsplit(name)
            if (parts.netloc.lower(), parts.path.rstrip("/")) == (host, path.rstrip("/")):
                return name
        return f"{scope.get('scheme', 'http')}://{host}{path}"


class WithToolScopes:
    """ASGI wrapper of a metadata document that the SDK or FastMCP made: adds the scopes that tools ask for."""

    def __init__(self, app: ASGIApp, offered: Callable[[], Sequence[str]]) -> None:
        self._app = app
        self._offered = offered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        start: Message | None = None
        body = b""

        async def send_with_scopes(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            body += message.get("body", b"")
            if message.get("more_body") or start is None:
                return
            whole = self._with_scopes(body)
            headers = MutableHeaders(raw=list(start["headers"]))
            headers["content-length"] = str(len(whole))
            await send({**start, "headers": headers.raw})
            await send({"type": "http.response.body", "body": whole})

        await self._app(scope, receive, send_with_scopes)

    def _with_scopes(self, body: bytes) -> bytes:
        try:
            document: Any = json.loads(body)
        except ValueError:
            return body
        if not isinstance(document, dict) or "resource" not in document or not (more := self._offered()):
            return body
        document["scopes_supported"] = list(dict.fromkeys((*(document.get("scopes_supported") or ()), *more)))
        return json.dumps(document).encode()
