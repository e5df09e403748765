"""Takes replies off a connection of redis-py's the moment they arrive: no stream and no task stands in between.

The connection stays redis-py's, which opened it, writes to it and closes it; only nobody else reads from it any more.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from hiredis import Reader
from redis.exceptions import ConnectionError, InvalidResponse

__all__ = ["ReplyReader"]


class ReplyReader(asyncio.Protocol):
    """Reads an open connection to its end."""

    def __init__(self, connection: Any, take: Callable[[Any], None], lost: Callable[[Exception], None]) -> None:
        """`take` gets every reply; what Redis refused as the exception that redis-py makes of it, not raised.

        `lost` is called when the connection has broken, at most once, and nothing is taken after it.
        """
        self._reader = Reader(protocolError=InvalidResponse, replyError=connection._parser.parse_error)
        self._take = take
        self._lost: Callable[[Exception], None] | None = lost
        self.is_closed = asyncio.Event()
        self._transport: Any = connection._writer.transport
        self._before = self._transport.get_protocol()
        """redis-py's: writing waits for its word, and closing for its end."""
        self._transport.set_protocol(self)
        if connection._reader.at_eof():  # perhaps nobody tells that any more
            self.is_closed.set()
            asyncio.get_running_loop().call_soon(self._lose, None)

    def abort(self) -> None:
        """Close the connection at once, and take nothing more; `lost` is not called."""
        self._lost = None
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take what is whole."""
        try:
            self._reader.feed(data)
            while self._lost is not None and (reply := self._reader.gets()) is not False:
                self._take(reply)
        except InvalidResponse as exc:
            self._transport.abort()
            self._lose(exc)

    def pause_writing(self) -> None:
        """Pass it on."""
        self._before.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._before.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Say so."""
        self._before.connection_lost(exc)
        self.is_closed.set()
        self._lose(exc)

    def _lose(self, exc: Exception | None) -> None:
        lost, self._lost = self._lost, None
        if lost is not None:
            lost(exc or ConnectionError("the connection was lost"))
