"""A response of server-sent events that thousands hold open at once: what each of them costs is kept small.

The task of the request waits for events, one more for the reader to leave. A timer sends comments in silence and ends
the stream of a reader that has stopped reading; one task for all of them sees the exit of the server.
"""

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from contextvars import Context, copy_context
from typing import Any
from weakref import WeakSet

import structlog
from sse_starlette import ServerSentEvent
from sse_starlette.sse import AppStatus
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from taskmill.engine.events import Event
from taskmill.server.streams.eager import run_eagerly
from taskmill.server.streams.sse import PING
from taskmill.store.pubsub.event_tail import EventTails

__all__ = ["MAY_READ_ON", "EventStream", "TaskEventStream", "end_event_streams"]

log = structlog.get_logger()
MAY_READ_ON = "taskmill.may_read_on"
"""Key of a request: a function that says whether its sender may still read what a stream sends. Asked every 15 s."""
COMMENT_EVERY = 15.0
"""Seconds of silence after which a comment keeps proxies from closing the connection."""
SEND_TIMEOUT = 20.0
"""Seconds that a reader may take nothing of what is sent to it before its stream ends."""
_LOOK_FOR_EXIT = 0.5
_HEADERS = {"Cache-Control": "no-store", "Connection": "keep-alive", "X-Accel-Buffering": "no"}
_open: WeakSet["_OpenStream"] = WeakSet()
_watcher: asyncio.Task[None] | None = None


class _OpenStream(Response):
    """An open stream of events. It ends with them, when its reader leaves or has stopped reading, and with the server.

    A reader that has stopped reading would let messages pile up in the memory of the process.
    """

    def __init__(self) -> None:
        self.status_code = 200
        self.media_type = "text/event-stream"
        self.background = None
        self.init_headers(_HEADERS)
        self._sending: asyncio.Task[Any] | None = None
        self._commenting: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle
        self._send: Send
        self._sent_at = asyncio.get_running_loop().time()
        """When the last bytes were sent; before the first, when the stream began."""
        self._stuck_since = 0.0
        """Since when the reader has not taken some; 0 = it has taken all."""
        self._has_stopped_reading = self._is_ended = False
        self._may_read_on: Callable[[], bool] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        self._send, self._may_read_on = send, scope.get(MAY_READ_ON)
        self._sending = asyncio.current_task()
        loop = asyncio.get_running_loop()
        leaving = loop.create_task(self._wait_for_disconnect(receive), name="taskmill.event_stream")
        self._timer = loop.call_later(_look_after(), self._look)
        _open.add(self)
        _watch_for_exit()
        try:
            await self._send_events()
        except asyncio.CancelledError:
            if not self._is_ended or (self._sending is not None and self._sending.uncancel()):
                raise
        finally:
            self._sending = None
            _open.discard(self)
            self._timer.cancel()
            leaving.cancel()
        if self._has_stopped_reading:
            log.info("events.reader_dropped", path=scope["path"])
            return  # without the end of the response, so that the connection is closed
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def end(self) -> None:
        """End the stream; its reader connects again, to another replica if this one ends."""
        if self._sending is not None and not self._is_ended:
            self._is_ended = True
            self._sending.cancel()

    @abstractmethod
    async def _send_events(self) -> None:
        """Send all, until the last one."""

    async def _write(self, block: bytes) -> None:
        now = asyncio.get_running_loop().time()
        self._sent_at = now
        self._stuck_since = self._stuck_since or now
        await self._send({"type": "http.response.body", "body": block, "more_body": True})
        self._stuck_since = 0.0

    async def _wait_for_disconnect(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.end()

    def _look(self) -> None:
        """Send a comment if there was silence; end the stream of one who takes nothing, or may read no more."""
        if self._may_read_on is not None and not self._may_read_on():
            self.end()
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._stuck_since:
            due = self._stuck_since + SEND_TIMEOUT
            if due <= now:
                self._has_stopped_reading = True
                self.end()
                return
        else:
            due = self._sent_at + COMMENT_EVERY
            if due <= now:
                due = now + COMMENT_EVERY
                self._commenting = loop.create_task(self._comment(), name="taskmill.event_stream.comment")
        self._timer = loop.call_later(min(due - now, _look_after()), self._look)

    async def _comment(self) -> None:
        with suppress(OSError):  # the reader has left, which the stream itself notices
            await self._write(PING)


class EventStream(_OpenStream):
    """A stream of what an iterator gives."""

    def __init__(self, events: AsyncIterator[ServerSentEvent] | AsyncIterator[bytes]) -> None:
        """`events`: each an event, or the bytes of one or more."""
        super().__init__()
        self._events: Any = events

    async def _send_events(self) -> None:
        async with aclosing(self._events) as events:
            async for event in events:
                await self._write(event if isinstance(event, bytes) else event.encode())


class TaskEventStream(_OpenStream):
    """The events of a task from one on, as they happen: thousands may read those of the same task."""

    def __init__(
        self, tails: EventTails, task_id: str, encode: Callable[[Event], bytes], *, after: int = 0, retry_ms: int = 0
    ) -> None:
        """`encode`: the text of an event; `retry_ms`: after how long a reader that is cut off connects again, 0 = as
        it likes.
        """
        super().__init__()
        self._tails = tails
        self._task_id = task_id
        self._encode = encode
        self._after = after
        # Sent together with the first event: by itself, a comment could come between the two.
        self._first_line = f"retry: {retry_ms}\r\n".encode() if retry_ms else b""
        self._context: Context

    async def _send_events(self) -> None:
        self._context = copy_context()
        await self._tails.hand_to(self._take, self._task_id, after=self._after)

    def _take(self, event: Event) -> Awaitable[None] | None:
        """Send an event in the name of the request, whose task is not woken unless its reader is slow."""
        assert self._sending is not None, "the stream follows its task only while it is open"
        first_line, self._first_line = self._first_line, b""
        return run_eagerly(self._write(first_line + self._encode(event)), self._sending, self._context)


def _look_after() -> float:
    return min(COMMENT_EVERY, SEND_TIMEOUT)


def end_event_streams() -> None:
    """End all open streams of this process, because its server ends."""
    for stream in list(_open):
        stream.end()


def _watch_for_exit() -> None:
    """For a server of the caller's own, which waits for open responses when it is to exit."""
    global _watcher  # one a process, as the exit of its server is
    loop = asyncio.get_running_loop()
    if _watcher is None or _watcher.done() or _watcher.get_loop() is not loop:
        _watcher = loop.create_task(_end_with_the_server(), name="taskmill.event_stream.exit")


async def _end_with_the_server() -> None:
    while _open and not AppStatus.should_exit:  # noqa: ASYNC110  # uvicorn has no event for it
        await asyncio.sleep(_LOOK_FOR_EXIT)
    end_event_streams()
