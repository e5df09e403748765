"""One HTTP response of a revision before 2026: a single JSON body, or a stream of events if there is more to send.

What is written after the client has disconnected is dropped here; a call that can be resumed keeps it elsewhere.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any

from starlette.types import Receive, Scope, Send

from taskmill.server.streams import sse
from taskmill.store.formats.json_text import write_ascii_json

__all__ = ["JsonOrSseResponse"]


class JsonOrSseResponse:
    """Between those who write messages and the one client that reads them."""

    def __init__(self, headers: Mapping[str, str], *, keep_alive: float = 15.0, limit: float | None = None) -> None:
        """`keep_alive`: seconds of silence after which a comment is sent; `limit`: seconds after which it is closed."""
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._keep_alive = keep_alive
        self._limit = limit
        self._frames: deque[bytes] = deque()
        self._body: dict[str, Any] | None = None
        self._changed = asyncio.Event()
        self._closed = False
        self.streams = False
        """Whether events have been written: then there is no single JSON body."""
        self.is_disconnected = False
        """Whether the client has disconnected, or was cut off because it read too slowly."""
        self.has_client_left = False
        """Whether the client closed the connection, and not this side."""

    def write(self, frame: bytes) -> None:
        """Send a frame; the response becomes a stream."""
        self.streams = True
        if self.is_disconnected or self._closed:
            return
        if len(self._frames) >= sse.BACKLOG:
            self.is_disconnected = True
        else:
            self._frames.append(frame)
        self._changed.set()

    def respond(self, message: dict[str, Any], event_id: str | None = None) -> None:
        """Send the JSON-RPC response, as the whole body where nothing was streamed, and close."""
        if self.streams:
            self.write(sse.event(message, event_id))
        else:
            self._body = message
        self.close()

    def close(self) -> None:
        """End the HTTP response after what was written."""
        self._closed = True
        self._changed.set()

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything; returns when it was closed, or the client has disconnected."""
        watching = asyncio.create_task(_until_disconnect(receive))
        writing = asyncio.create_task(self._send_all(send))
        try:
            await asyncio.wait([watching, writing], return_when=asyncio.FIRST_COMPLETED)
            self.has_client_left = not writing.done()
        finally:
            self.is_disconnected = self.is_disconnected or not self._closed or bool(self._frames)
            for task in (watching, writing):
                task.cancel()
            await asyncio.wait([watching, writing])
        if writing.done() and not writing.cancelled():
            writing.result()

    async def _send_all(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self._limit or float("inf"))
        started = False
        while True:
            is_silent = await self._is_silent(min(self._keep_alive, deadline - loop.time()))
            if self._body is not None:
                await self._send_whole(send, self._body)
                return
            if not started and (self._frames or is_silent or self.streams or self._closed):
                await send({"type": "http.response.start", "status": 200, "headers": [*sse.HEADERS, *self._headers]})
                self.streams = started = True
            while self._frames:
                await send({"type": "http.response.body", "body": self._frames.popleft(), "more_body": True})
            if self._closed or self.is_disconnected or loop.time() >= deadline:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            if is_silent:
                await send({"type": "http.response.body", "body": sse.PING, "more_body": True})

    async def _is_silent(self, seconds: float) -> bool:
        """Wait until there is something to do; True when there was nothing for so long."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._changed.wait()
        except TimeoutError:
            return True
        self._changed.clear()
        return False

    async def _send_whole(self, send: Send, message: dict[str, Any]) -> None:
        body = write_ascii_json(message)
        headers = [(b"content-type", b"application/json"), *self._headers]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
