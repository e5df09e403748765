"""Clients that disconnect: their requests end without a log line, and no other error is hidden by that."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
import uvloop
from anyio import fail_after, sleep
from anyio.lowlevel import checkpoint
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskmill.server.http import middleware
from taskmill.server.http.middleware import ClientDisconnects

CLOSED = "unable to perform operation on <TCPTransport closed=True>; the handler is closed"


async def nothing(_message: Message) -> None:
    """A `send` that drops messages."""


async def never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


def raising(error: Exception) -> ASGIApp:
    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise error

    return app


async def test_a_request_is_passed_on_as_it_is() -> None:
    passed = []

    async def app(*parts: object) -> None:
        passed.append(parts)

    await ClientDisconnects(app)({"type": "http"}, never, nothing)
    assert passed == [({"type": "http"}, never, nothing)]


async def test_a_disconnect_while_the_body_is_read_ends_the_request() -> None:
    await ClientDisconnects(raising(ClientDisconnect()))({"type": "http"}, never, nothing)


async def test_a_write_to_a_closed_connection_ends_the_request_after_http_disconnect() -> None:
    """Before that, the server would log a broken application; the rest of the body is received first."""
    said, gone = asyncio.Queue[Message](), asyncio.Event()

    async def serve() -> None:
        await ClientDisconnects(raising(RuntimeError(CLOSED)))({"type": "http"}, said.get, nothing)
        gone.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve())
        said.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        while not said.empty():
            await checkpoint()
        assert not gone.is_set()
        said.put_nowait({"type": "http.disconnect"})
    assert gone.is_set()


async def test_the_wait_for_http_disconnect_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "_DISCONNECT_TIMEOUT", 0.01)
    with fail_after(30):
        await ClientDisconnects(raising(RuntimeError(CLOSED)))({"type": "http"}, never, nothing)


@pytest.mark.parametrize("error", [RuntimeError("broken"), ValueError(CLOSED)], ids=["words", "kind"])
async def test_every_other_error_reaches_the_server(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error).split(" ")[0]):
        await ClientDisconnects(raising(error))({"type": "http"}, never, nothing)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads a body, or, at `/stream`, writes until it is stopped."""
    if scope["path"] == "/body":
        await Request(scope, receive).body()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while scope["path"] == "/stream":
        await send({"type": "http.response.body", "body": b"more", "more_body": True})
        await sleep(0.005)
    await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[int]:
    """The port of a real server."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="off", http="httptools", log_config=None))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve())
        with fail_after(30):
            while not server.started:
                await sleep(0.005)
        yield server.servers[0].sockets[0].getsockname()[1]
        server.should_exit = True


async def hung_up_on(sent: bytes, *, heard: int) -> None:
    """Send a request to a real server, and disconnect after so many bytes; returns when the first request has ended."""
    ended = asyncio.Event()

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        await ClientDisconnects(application)(scope, receive, send)
        ended.set()

    async with served(watched) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        await writer.drain()
        await reader.readexactly(heard)
        writer.close()
        with fail_after(30):
            await ended.wait()


def errors_after(sent: bytes, heard: int, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the server logs; on uvloop, as `taskmill serve` runs."""
    with caplog.at_level(logging.WARNING), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(hung_up_on(sent, heard=heard))
    return [record.message for record in caplog.records if record.name == "uvicorn.error"]


def test_a_disconnect_in_the_body_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Also for a proxy that disconnects while the request is read."""
    assert errors_after(b"POST /body HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf", 0, caplog) == []


def test_of_pipelined_requests_the_server_notifies_only_the_last_of_a_disconnect(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvicorn does, and without `ClientDisconnects` with a traceback. Once this fails, the fuzz need not skip it."""
    monkeypatch.setattr(middleware, "_DISCONNECT_TIMEOUT", 0.05)
    one_after_another = b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n"
    assert errors_after(one_after_another, 10, caplog) == ["ASGI callable returned without completing response."]
