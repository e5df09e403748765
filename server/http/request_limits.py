"""ASGI middleware: requests with too many headers are refused before anything reads them.

Every reader of headers walks the list, and some do so once a header: 16,000 small ones cost a replica ten seconds. This
holds under any ASGI server; what holds for connections, before a request is whole, is in `cli/serving/connections.py`.
"""

from http import HTTPStatus
from itertools import chain

from mcp_types import INVALID_REQUEST
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["TOO_MANY_HEADERS", "HeaderLimits", "too_many_headers"]

_MAX_HEADERS = 128
"""Headers of a request. A browser behind three proxies sends some 40."""
_MAX_HEADER_BYTES = 64 * 1024
"""Bytes of their names and values together. Most servers in front of ours take 8 to 16 kB."""

TOO_MANY_HEADERS = (
    f"A request may have {_MAX_HEADERS} headers, and {_MAX_HEADER_BYTES // 1024} kB of them together; send fewer."
)


def too_many_headers(count: int, size: int) -> bool:
    """Whether a request with `count` headers of `size` bytes is refused."""
    return count > _MAX_HEADERS or size > _MAX_HEADER_BYTES


class HeaderLimits:
    """Answers 431 to a request that has too many headers, or too large ones (RFC 6585, section 5)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        headers = scope.get("headers", ())
        if not too_many_headers(len(headers), sum(map(len, chain.from_iterable(headers)))):
            await self._app(scope, receive, send)
            return
        body = {"jsonrpc": "2.0", "id": None, "error": {"code": INVALID_REQUEST, "message": TOO_MANY_HEADERS}}
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        await JSONResponse(body, status, {"connection": "close"})(scope, receive, send)
