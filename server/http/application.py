"""The application as an author uses it: its lifespan, the spellings of its path, the error of a forgotten lifespan.

What the requests mean is not known here.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from http import HTTPStatus
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from taskmill.server.http.middleware import path_of
from taskmill.server.tools.runtime import ServerRuntime

__all__ = ["EndpointPath", "HttpApp", "LifespanRequired"]

log = structlog.get_logger()
_INTERNAL_ERROR = -32603


class HttpApp(Starlette):
    """The application of the SDK, with `lifespan` for the application that mounts it."""

    @classmethod
    def of(cls, app: Starlette, mcp_path: str) -> "HttpApp":
        """The routes, the middleware and the lifespan of `app`. `mcp_path`: where its endpoint is."""
        inner = app.router.lifespan_context

        @asynccontextmanager
        async def lifespan(outer: Any) -> AsyncIterator[Any]:
            if mcp_path == "/" and isinstance(outer, Starlette) and outer is not made:
                _serve_without_slash(outer, made)
            async with inner(outer) as state:
                yield state

        made = cls(debug=app.debug, routes=app.routes, middleware=app.user_middleware, lifespan=lifespan)
        made.state = app.state
        return made

    @property
    def lifespan(self) -> Callable[[Any], AbstractAsyncContextManager[Any]]:
        """For the application that this one is mounted in: `FastAPI(lifespan=app.lifespan)`."""
        return self.router.lifespan_context


class EndpointPath:
    """ASGI middleware: the endpoint answers with and without a slash at its end, where Starlette redirects."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self._app = app
        self._path = path
        without = path.rstrip("/")
        self._others = {without, f"{without}/"} - {path}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, under the path of the endpoint if it is for that."""
        if scope["type"] == "http" and path_of(scope) in self._others:
            scope = {**scope, "path": scope.get("root_path", "") + self._path}
        await self._app(scope, receive, send)


class LifespanRequired:
    """ASGI middleware, for requests to the MCP endpoint: one error with the lines to write, if no lifespan was run."""

    def __init__(self, app: ASGIApp, runtime: ServerRuntime, path: str) -> None:
        self._app = app
        self._runtime = runtime
        self._path = path
        self._is_logged = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if self._runtime.was_opened or scope["type"] != "http" or path_of(scope) != self._path:
            await self._app(scope, receive, send)
            return
        if not self._is_logged:
            log.error("server.lifespan_missing", detail=self._runtime.lifespan_missing)
            self._is_logged = True
        error = {"code": _INTERNAL_ERROR, "message": self._runtime.lifespan_missing}
        body = {"jsonrpc": "2.0", "id": None, "error": error}
        await JSONResponse(body, HTTPStatus.SERVICE_UNAVAILABLE)(scope, receive, send)


def _serve_without_slash(outer: Starlette, app: ASGIApp) -> None:
    """Have a mount of `app` answer under its bare prefix as well: a mount at `/tools` answers at `/tools/` only."""
    for route in list(outer.routes):
        if isinstance(route, Mount) and route.app is app and route.path:
            outer.router.routes.insert(0, Route(route.path, endpoint=_Prefixed(app, route.path)))


class _Prefixed:
    """An application under a prefix, as a mount calls it."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        await self._app({**scope, "root_path": scope.get("root_path", "") + self._prefix}, receive, send)
