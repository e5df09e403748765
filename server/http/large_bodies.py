"""ASGI middleware before the MCP endpoint: large bodies are received whole, and then handed on one after the other.

What is done with them is not known here; the work on one body in pieces is in `server/limits/large_work.py`.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskmill.server.auth.principal import owner
from taskmill.server.http.middleware import path_of
from taskmill.server.limits.large_work import LARGE, mark_large_request
from taskmill.server.tools.runtime import ServerRuntime

__all__ = ["LargeBodies"]


class LargeBodies:
    """Hands a large request on when its work may begin; small ones pass untouched."""

    def __init__(self, app: ASGIApp, runtime: ServerRuntime, path: str, longest: int) -> None:
        """`path`: the endpoint's. `longest`: bytes of a body that the endpoint takes; larger ones it refuses itself."""
        self._app = app
        self._work = runtime.large_work
        self._path = path
        self._longest = longest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, with its whole body as one message if that may be large."""
        if scope["type"] != "http" or scope["method"] != "POST" or not LARGE < self._most_of(scope) <= self._longest:
            await self._app(scope, receive, send)
            return
        if path_of(scope) != self._path:
            await self._app(scope, receive, send)
            return
        who = owner()
        async with self._work.receiving(who):
            messages = await self._received(receive)
            size = len(messages[0].get("body", b""))
            if size > LARGE:
                mark_large_request()
                await self._work.pace(who, size)
                await self._work.wait(who)
        messages.reverse()

        async def receive_again() -> Message:
            return messages.pop() if messages else await receive()

        await self._app(scope, receive_again, send)

    def _most_of(self, scope: Scope) -> int:
        """Bytes that the body has at most; of one that is sent in chunks no length is known."""
        for name, value in scope["headers"]:
            if name == b"content-length":
                return int(value) if value.isdigit() else 0
            if name == b"transfer-encoding":
                return self._longest
        return 0

    async def _received(self, receive: Receive) -> list[Message]:
        """The body in one message, unless it is too long; and what came behind it."""
        parts, size = [await receive()], 0
        while True:
            last = parts[-1]
            size += len(last.get("body", b""))
            if last["type"] != "http.request" or not last.get("more_body") or size > self._longest:
                break
            parts.append(await receive())
        behind = [] if last["type"] == "http.request" else [parts.pop()]
        if not parts:
            return behind
        body = parts[0]["body"] if len(parts) == 1 else b"".join(part.get("body", b"") for part in parts)
        return [{"type": "http.request", "body": body, "more_body": parts[-1].get("more_body", False)}, *behind]
