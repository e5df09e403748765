"""Redirects between the two spellings of a path, with and without a slash at its end.

Starlette's own name the host of the request's Host header, which anyone may have written: a cache could keep one that
leads to another site. These name none, so a client stays where it is.
"""

from urllib.parse import quote

from starlette.applications import Starlette
from starlette.responses import RedirectResponse
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

__all__ = ["redirect_without_host"]


def redirect_without_host(app: Starlette) -> Starlette:
    """The application, which redirects to paths only."""
    app.router.redirect_slashes = False
    app.router.default = _SlashRedirects(app)
    return app


class _SlashRedirects:
    """What answers a request that no route of an application matches."""

    def __init__(self, app: Starlette) -> None:
        self._router = app.router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Redirect to the other spelling if a route matches that; else it is not found."""
        if scope["type"] == "http" and (path := self._other_spelling(scope)) is not None:
            query = scope.get("query_string", b"").decode("latin-1")
            url = quote(path) + (f"?{query}" if query else "")
            await RedirectResponse(url)(scope, receive, send)
            return
        await self._router.not_found(scope, receive, send)

    def _other_spelling(self, scope: Scope) -> str | None:
        path: str = scope["path"]
        other = path.rstrip("/") if path.endswith("/") else f"{path}/"
        # Two slashes at the beginning would name a host.
        if other in ("", "/") or other.startswith("//"):
            return None
        there = {**scope, "path": other}
        matches = any(route.matches(there)[0] is not Match.NONE for route in self._router.routes)
        return other if matches else None
