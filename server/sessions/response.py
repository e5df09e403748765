"""One HTTP response of a session's revision: a single JSON answer, or a stream of events if there is more to say.

What is written when nobody reads any more is dropped here; whoever can be resumed keeps it elsewhere.
"""

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from typing import Any

from starlette.types import Receive, Scope, Send

from taskmill.server.streams import sse

__all__ = ["JsonOrSseResponse"]


class JsonOrSseResponse:
    """Between those who write messages and the one client that reads them."""

    def __init__(self, headers: Mapping[str, str], *, keep_alive: float = 15.0, limit: float | None = None) -> None:
        """`keep_alive`: seconds of silence after which a comment is sent; `limit`: seconds until `at_limit` closes."""
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._keep_alive = keep_alive
        self._limit = limit
        self._frames: deque[bytes] = deque()
        self._answer: dict[str, Any] | None = None
        self._stirred = asyncio.Event()
        self._closed = False
        self.streams = False
        """Whether events have been written: there will be no single JSON answer."""
        self.is_left = False
        """Whether the reader has gone, or was cut off."""

    def write(self, frame: bytes) -> None:
        """Send a frame; the response becomes a stream."""
        self.streams = True
        if self.is_left or self._closed:
            return
        if len(self._frames) >= sse.BACKLOG:
            self.is_left = True
        else:
            self._frames.append(frame)
        self._stirred.set()

    def answer(self, message: dict[str, Any], event_id: str | None = None) -> None:
        """Send the one response, as the whole body where nothing was streamed, and close."""
        if self.streams:
            self.write(sse.event(message, event_id))
        else:
            self._answer = message
        self.close()

    def close(self) -> None:
        """End the response behind what was written."""
        self._closed = True
        self._stirred.set()

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Be the response; returns when it was closed, or its reader has gone."""
        watching = asyncio.create_task(_until_left(receive))
        writing = asyncio.create_task(self._send_all(send))
        try:
            await asyncio.wait([watching, writing], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.is_left = self.is_left or not self._closed or bool(self._frames)
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
            silent = await self._silence(min(self._keep_alive, deadline - loop.time()))
            if self._answer is not None:
                await self._send_whole(send, self._answer)
                return
            if not started and (self._frames or silent or self.streams or self._closed):
                await send({"type": "http.response.start", "status": 200, "headers": [*sse.HEADERS, *self._headers]})
                self.streams = started = True
            while self._frames:
                await send({"type": "http.response.body", "body": self._frames.popleft(), "more_body": True})
            if self._closed or self.is_left or loop.time() >= deadline:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                return
            if silent:
                await send({"type": "http.response.body", "body": sse.PING, "more_body": True})

    async def _silence(self, patience: float) -> bool:
        """Wait until something is to be done; True when nothing was, for so long."""
        try:
            async with asyncio.timeout(max(0.0, patience)):
                await self._stirred.wait()
        except TimeoutError:
            return True
        self._stirred.clear()
        return False

    async def _send_whole(self, send: Send, message: dict[str, Any]) -> None:
        body = json.dumps(message, separators=(",", ":")).encode()
        headers = [(b"content-type", b"application/json"), *self._headers]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


async def _until_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
