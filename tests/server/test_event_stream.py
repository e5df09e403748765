"""A response of server-sent events as its server sees it: how it ends, whatever ends it, and what it leaves behind."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from sse_starlette.sse import AppStatus
from starlette.types import Message

from taskmill.server.streams import event_stream
from taskmill.server.streams.event_stream import EventStream
from taskmill.server.streams.sse import PING
from tests.support.waiting import eventually_async

SCOPE = {"type": "http", "method": "GET", "path": "/events"}
END = {"type": "http.response.body", "body": b"", "more_body": False}


class Exchange:
    """One request for a stream of `a`, `b` and, if it goes on, silence."""

    def __init__(self, *, goes_on: bool = True) -> None:
        self.sent: list[Message] = []
        self.left = asyncio.Event()
        self.is_closed = False
        self.breaks_at: bytes | None = None
        self.stream = EventStream(self._events(goes_on=goes_on))
        self.serving = asyncio.create_task(self.stream(SCOPE, self._receive, self._send))

    async def _events(self, *, goes_on: bool) -> AsyncIterator[bytes]:
        try:
            yield b"a"
            yield b"b"
            if goes_on:
                await asyncio.Event().wait()
        finally:
            self.is_closed = True

    async def _receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.sent.append(message)
        if self.breaks_at is not None and message.get("body") == self.breaks_at:
            raise OSError("the reader has left")

    async def until(self, body: bytes, times: int = 1) -> None:
        await eventually_async(lambda: [one.get("body") for one in self.sent].count(body), lambda found: found >= times)

    def is_clean(self) -> bool:
        """Whether nothing of it is left that costs anything."""
        names = {task.get_name() for task in asyncio.all_tasks()}
        return self.is_closed and not names & {"taskmill.event_stream", "taskmill.event_stream.comment"}


async def test_a_stream_that_has_sent_all_its_events_ends_whole_and_leaves_nothing() -> None:
    exchange = Exchange(goes_on=False)
    await exchange.serving
    assert [one.get("body") for one in exchange.sent] == [None, b"a", b"b", b""]
    assert exchange.sent[-1] == END
    headers = dict(exchange.sent[0]["headers"])
    assert (headers[b"cache-control"], headers[b"x-accel-buffering"]) == (b"no-store", b"no")
    await eventually_async(exchange.is_clean, bool)


async def test_a_stream_whose_reader_has_left_ends_and_leaves_nothing() -> None:
    exchange = Exchange()
    await exchange.until(b"b")
    exchange.left.set()
    async with asyncio.timeout(20):
        await exchange.serving
    await eventually_async(exchange.is_clean, bool)


async def test_who_ends_a_stream_cancels_nothing_else_and_a_cancel_meanwhile_is_not_lost() -> None:
    async def serve(*, is_cancelled: bool) -> int:
        exchange = Exchange()
        await exchange.until(b"b")
        exchange.stream.end()
        exchange.stream.end()
        if is_cancelled:
            exchange.serving.cancel()
        await exchange.serving
        assert exchange.sent[-1] == END
        return exchange.serving.cancelling()

    assert await serve(is_cancelled=False) == 0
    with pytest.raises(asyncio.CancelledError):
        await serve(is_cancelled=True)


async def test_an_exit_of_the_server_ends_its_streams_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "_LOOK_FOR_EXIT", 0.01)
    exchanges = [Exchange() for _ in range(2)]
    for exchange in exchanges:
        await exchange.until(b"b")
    monkeypatch.setattr(AppStatus, "should_exit", True)
    async with asyncio.timeout(20):
        await asyncio.gather(*(exchange.serving for exchange in exchanges))
    assert [exchange.sent[-1] for exchange in exchanges] == [END, END]


async def test_comments_go_on_in_silence_and_one_that_cannot_be_sent_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_stream, "COMMENT_EVERY", 0.01)
    faults: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    exchange = Exchange()
    await exchange.until(PING, 2)
    exchange.breaks_at = PING
    await exchange.until(PING, 3)
    exchange.left.set()
    with suppress(OSError):
        await exchange.serving
    gc.collect()
    await asyncio.sleep(0)
    assert faults == []
