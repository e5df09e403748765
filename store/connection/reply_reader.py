"""Takes replies off a connection of redis-py the moment they arrive, without a stream or a task in between.

redis-py still owns the connection, which opens, writes and closes it; but nothing else reads from it any more.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from hiredis import Reader
from redis.exceptions import ConnectionError, InvalidResponse

from taskmill.store.connection.redis_private import has_ended, parse_error_of, transport_of

__all__ = ["ReplyReader"]


class ReplyReader(asyncio.Protocol):
    """Reads an open connection to its end."""

    def __init__(self, connection: Any, on_reply: Callable[[Any], None], on_lost: Callable[[Exception], None]) -> None:
        """`on_reply` gets every reply; an error of Redis as the exception that redis-py makes of it, not raised.

        `on_lost` is called when the connection has broken, at most once, and no reply is taken after it.
        """
        self._parser = Reader(protocolError=InvalidResponse, replyError=parse_error_of(connection))
        self._on_reply = on_reply
        self._on_lost: Callable[[Exception], None] | None = on_lost
        self.is_closed = asyncio.Event()
        self._transport = transport_of(connection)
        self._former_protocol = self._transport.get_protocol()
        """redis-py's: its writes wait until it is resumed, and its closing waits until the connection is lost."""
        self._transport.set_protocol(self)
        if has_ended(connection):  # the transport may have reported that already, to the former protocol
            self.is_closed.set()
            asyncio.get_running_loop().call_soon(self._report_lost, None)

    def abort(self) -> None:
        """Close the connection at once, and take no more replies; `on_lost` is not called."""
        self._on_lost = None
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take the replies that are complete."""
        try:
            self._parser.feed(data)
            while self._on_lost is not None and (reply := self._parser.gets()) is not False:
                self._on_reply(reply)
        except InvalidResponse as exc:
            self._transport.abort()
            self._report_lost(exc)

    def pause_writing(self) -> None:
        """Pass it on."""
        self._former_protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._former_protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Report it."""
        self._former_protocol.connection_lost(exc)
        self.is_closed.set()
        self._report_lost(exc)

    def _report_lost(self, exc: Exception | None) -> None:
        on_lost, self._on_lost = self._on_lost, None
        if on_lost is not None:
            on_lost(exc or ConnectionError("the connection was lost"))
