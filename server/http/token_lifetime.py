"""ASGI middleware, behind the check of tokens: an open stream of events ends soon after the token it was opened with.

Calls end by themselves: a held call is handed off when its token expires (`handlers/calls_without_tasks.py`), so that
nothing of its result is lost, and a stream of a session is closed in order (`sessions/endpoint.py`).
"""

from contextlib import AbstractContextManager

import anyio
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskmill.server.auth.lifetime import sooner

__all__ = ["TokenLifetime"]

_MARGIN = 1.5
"""Seconds after the token's end: streams that can end by themselves have done so by then."""


class TokenLifetime:
    """Ends streams that wait for events without end: those of GET, and of `subscriptions/listen`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and end its response in time."""
        seconds = sooner(None, margin=_MARGIN) if _is_endless(scope) else None
        if seconds is None:
            await self._app(scope, receive, send)
            return
        streaming = ended = False
        limit = anyio.CancelScope()

        async def send_and_watch(message: Message) -> None:
            nonlocal streaming, ended
            if message["type"] == "http.response.start" and _is_stream(message):
                streaming = True
                limit.deadline = anyio.current_time() + seconds
            ended = ended or (message["type"] == "http.response.body" and not message.get("more_body"))
            await send(message)

        entered: AbstractContextManager[object] = limit
        with entered:
            await self._app(scope, receive, send_and_watch)
        if streaming and not ended:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _is_endless(scope: Scope) -> bool:
    if scope["type"] != "http" or not isinstance(scope.get("user"), AuthenticatedUser):
        return False
    return scope["method"] == "GET" or Headers(scope=scope).get("mcp-method") == "subscriptions/listen"


def _is_stream(start: Message) -> bool:
    return Headers(raw=start["headers"]).get("content-type", "").startswith("text/event-stream")
