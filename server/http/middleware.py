"""Clients that hang up in the middle of a request, or of its answer: no crash of the server's, and nothing to log."""

import anyio
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["ClientDisconnects"]

_CLOSED = "; the handler is closed"
"""What uvloop says of a write to a connection that has gone. It can go when uvicorn hears that itself."""
_PATIENCE = 5.0
"""Seconds until it is clear that uvicorn will not tell.

Of requests that are sent in one go, ahead of the answers, its httptools protocol tells the last one only, for
`connection_lost` marks `self.cycle`. Of the one it has not told it then logs that its response was not completed; no
application can keep it from that.
"""


class ClientDisconnects:
    """ASGI middleware: ends a request whose client has gone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; nobody is there to be answered when it ends in a hang-up."""
        try:
            await self._app(scope, receive, send)
        except ClientDisconnect:
            return
        except RuntimeError as exc:
            if not str(exc).endswith(_CLOSED):
                raise
            # The server takes an application that ends before it has heard of the end for a broken one.
            with anyio.move_on_after(_PATIENCE):
                while (await receive())["type"] != "http.disconnect":
                    pass
