"""Brings requests to the MCP endpoint to the fast paths before anything else sees them, on a server without tokens.

Routes, the parts for errors and the check of scopes have nothing to do for what the fast paths answer. Where tokens are
asked for, the fast paths stand behind that check.
"""

from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from taskmill.server.http.middleware import path_of
from taskmill.server.http.scope_challenge import is_gated
from taskmill.server.tools.registry import ToolRegistry

__all__ = ["Front"]


class Front:
    """ASGI middleware, inside all that an author adds to the application."""

    def __init__(
        self,
        app: ASGIApp,
        hasten: Callable[[ASGIApp], ASGIApp],
        registry: ToolRegistry,
        *,
        path: str,
        has_operator: bool,
    ) -> None:
        """`hasten`: puts the fast paths before an application; `path`: the endpoint's."""
        self._app = app
        self._fast = hasten(app)
        self._registry = registry
        self._path = path
        self._has_operator = has_operator

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass the request on, the short way if it is one for the endpoint."""
        return (self._fast if self._is_for_endpoint(scope) else self._app)(scope, receive, send)

    def _is_for_endpoint(self, scope: Scope) -> bool:
        if scope["type"] != "http" or path_of(scope) != self._path:
            return False
        # An author's own middleware may have said who this is. And nothing but its check sees an operator's token.
        return not is_gated(scope, self._registry) and not (self._has_operator and _has_token(scope))


def _has_token(scope: Scope) -> bool:
    return any(name == b"authorization" for name, _ in scope["headers"])
