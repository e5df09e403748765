"""HTTP connections of a replica: what a client may take before its request is whole.

uvicorn has no limit for the time that a request takes to arrive, and none for headers: a client that opens connections
and sends half a request keeps them. Here such a connection is closed, cheaply and before the application knows of it.
"""

import asyncio
from collections import Counter
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from taskmill.server.http.request_limits import TOO_MANY_HEADERS, too_many_headers

__all__ = ["ConnectionLimits", "LimitedConnection"]

_WORDS = {
    HTTPStatus.REQUEST_TIMEOUT: "The request took too long to arrive (TASKMILL_REQUEST_TIMEOUT).",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: TOO_MANY_HEADERS,
    HTTPStatus.SERVICE_UNAVAILABLE: "Too many unfinished requests from this address (TASKMILL_UNFINISHED_REQUESTS).",
}


class ConnectionLimits:
    """The limits of one replica, and what its clients have open."""

    def __init__(self, *, request_timeout: float, unfinished_requests: int) -> None:
        """`request_timeout`: seconds for the headers of a request, and as many again for its body.

        `unfinished_requests`: how many connections of one address may wait for the rest of a request; 0 = any number.
        """
        self.request_timeout = request_timeout
        self.unfinished_requests = unfinished_requests
        self.unfinished: Counter[str] = Counter()
        """Connections that wait for the rest of a request, by the client's address."""


class LimitedConnection(HttpToolsProtocol):
    """A connection that is closed when a request is too slow, has too many headers, or is one of too many halves.

    A client that is refused gets 408, 431 or 503, if no response has begun.
    """

    def __init__(self, *arguments: Any, limits: ConnectionLimits, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._limits = limits
        self._address = ""
        self._deadline: asyncio.TimerHandle | None = None
        """Set while the client has to send the rest of a request."""
        self._is_refused = False
        self._in_headers = True
        self._header_count = 0
        self._header_bytes = 0
        self._unparsed_bytes = 0
        """Received since the parser has last handed something on: its headers as a whole, or a part of its body."""
        self._has_handed_on = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Wait for a request; called by the event loop, as are the next two."""
        super().connection_made(transport)
        self._address = self.client[0] if self.client else ""
        self._expect_more()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget what the client had open."""
        self._expect_nothing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has come, unless the connection is refused."""
        if self._is_refused:
            return
        self._has_handed_on = False
        super().data_received(data)
        if self._has_handed_on:
            self._unparsed_bytes = 0
        else:
            # A header or trailer that has not ended is in the parser alone, which copies it whenever more of it comes.
            self._unparsed_bytes += len(data)
            self._check_headers(self._unparsed_bytes)

    def on_message_begin(self) -> None:
        """Called by the parser, as are the next four: a request begins."""
        super().on_message_begin()
        self._in_headers = True
        self._header_count = self._header_bytes = self._unparsed_bytes = 0
        if self._deadline is None:  # the connection is used again; for its first request the time runs already
            self._expect_more()

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header of the request is complete, or a trailer behind its body, which no one has asked for."""
        self._header_count += 1
        self._header_bytes += len(name) + len(value)
        self._check_headers(self._header_bytes)
        # uvicorn would put a trailer among the headers, behind whatever has checked those (RFC 9110, section 6.5.1).
        if self._in_headers and not self._is_refused:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The application starts with the request, and waits for its body."""
        self._in_headers = False
        self._has_handed_on = True
        self._expect_nothing()
        if not self._is_refused:
            self._expect_more()
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body has come."""
        self._has_handed_on = True
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._has_handed_on = True
        self._expect_nothing()
        if not self._is_refused:
            super().on_message_complete()

    def _check_headers(self, size: int) -> None:
        if too_many_headers(self._header_count, size):
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def _expect_more(self) -> None:
        limits = self._limits
        limits.unfinished[self._address] += 1
        self._deadline = self.loop.call_later(limits.request_timeout, self._end_wait)
        if 0 < limits.unfinished_requests < limits.unfinished[self._address]:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE)

    def _expect_nothing(self) -> None:
        if self._deadline is None:
            return
        self._deadline.cancel()
        self._deadline = None
        unfinished = self._limits.unfinished
        unfinished[self._address] -= 1
        if not unfinished[self._address]:
            del unfinished[self._address]

    def _end_wait(self) -> None:
        self._expect_nothing()
        if self.pipeline:
            self._expect_more()  # a request that was sent ahead is not read before the one in front of it has ended
        else:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)

    def _refuse(self, status: HTTPStatus) -> None:
        if self._is_refused or self.transport.is_closing():
            return
        self._is_refused = True
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            words = _WORDS[status].encode()
            head = f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: text/plain\r\nconnection: close\r\n"
            self.transport.write(f"{head}content-length: {len(words)}\r\n\r\n".encode() + words)
        self.transport.close()
