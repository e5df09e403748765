"""Clients that send too much before a request is whole, or send it too slowly, or by halves."""

import contextlib
import json
import socket
from collections.abc import Callable, Iterator

import pytest

from tests.support.command_line import CommandLine, is_ready, port_of
from tests.support.raw_http import RawClient
from tests.support.waiting import WAIT_SECONDS, eventually

HEAD = b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\n"
CHUNKED = (
    b"Content-Type: application/json\r\nAccept: application/json, text/event-stream\r\n"
    b"MCP-Protocol-Version: 2026-07-28\r\nTransfer-Encoding: chunked\r\n"
)
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
SERVER = """
import asyncio
from mcp.server.mcpserver import Context
from taskmill.server import TaskServer

mcp = TaskServer("Tests")

@mcp.tool()
async def nap(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "rested"

@mcp.tool()
async def headers(ctx: Context) -> str:
    return " ".join(ctx.request_context.request.headers)
"""
Connect = Callable[[], socket.socket]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Of a replica that waits a second and a half for a request, and for eight at a time."""
    limits = {"TASKMILL_REQUEST_TIMEOUT": "1.5", "TASKMILL_UNFINISHED_REQUESTS": "8"}
    cli = CommandLine(tmp_path_factory.mktemp("connections"))
    cli.write("server.py", SERVER)
    with cli, cli.started("serve", "server.py", "--port", "0", **limits) as server:
        yield port_of(server.url())


@pytest.fixture
def connect(port: int) -> Iterator[Connect]:
    """Opens connections to the replica; they are closed in the end."""
    with contextlib.ExitStack() as stack:

        def opened() -> socket.socket:
            return stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=WAIT_SECONDS))

        yield opened
    assert eventually(lambda: is_ready(port)), "the replica no longer serves"


def answer(connection: socket.socket) -> bytes:
    """All that it receives until it is closed."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := connection.recv(65536):
            received += data
    return received


class TestHeaders:
    def test_sixteen_thousand_small_ones_are_refused_before_they_are_all_read(self, connect: Connect) -> None:
        connection = connect()

        with contextlib.suppress(ConnectionError):
            connection.sendall(HEAD + b"".join(b"X-%d: 1\r\n" % number for number in range(16_000)) + b"\r\n")

        assert answer(connection).startswith(b"HTTP/1.1 431 ") or is_closed(connection)

    def test_a_few_too_many_are_refused_in_words(self, connect: Connect) -> None:
        connection = connect()

        connection.sendall(HEAD + b"".join(b"X-%d: 1\r\n" % number for number in range(128)) + b"\r\n")

        assert b"A request may have 128 headers" in answer(connection)

    def test_a_header_without_an_end_is_refused(self, connect: Connect) -> None:
        connection = connect()

        with contextlib.suppress(ConnectionError):
            for part in (HEAD + b"X: ", *[b"a" * 16384] * 5):
                connection.sendall(part)

        assert answer(connection).startswith(b"HTTP/1.1 431 ") or is_closed(connection)

    def test_a_trailer_without_an_end_is_refused(self, connect: Connect) -> None:
        """Behind the body, where the parser keeps and copies it just so: 50 MB took a replica half a minute."""
        connection = connect()

        with contextlib.suppress(ConnectionError):
            for part in (HEAD + CHUNKED + b"\r\n2\r\n{}\r\n0\r\nX: ", *[b"a" * 65536] * 16):
                connection.sendall(part)

        # Nothing: the connection was reset, and what it had sent went with it.
        assert answer(connection)[:13] in (b"HTTP/1.1 431 ", b"")

    def test_a_trailer_is_no_header(self, port: int, connect: Connect) -> None:
        """What checks headers has done so before trailers come."""
        params = {"name": "headers", "arguments": {}, "_meta": META}
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
        connection = connect()

        connection.sendall(
            HEAD + CHUNKED + b"Mcp-Method: tools/call\r\nMcp-Name: headers\r\nX-Header: 1\r\nConnection: close\r\n\r\n"
        )
        connection.sendall(b"%x\r\n%s\r\n0\r\nX-Trailer: 1\r\n\r\n" % (len(body), body))

        received = answer(connection)
        assert (b"x-header" in received, b"x-trailer" in received) == (True, False), received

    def test_a_hundred_are_served_and_so_is_the_next_request(self, connect: Connect) -> None:
        connection = connect()
        headers = b"".join(b"X-%d: 1\r\n" % number for number in range(100))
        request = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n" + headers + b"\r\n"

        connection.sendall(request + request)

        received = b""
        while received.count(b"HTTP/1.1 200 OK") < 2:
            data = connection.recv(65536)
            assert data, received
            received += data


class TestTime:
    def test_half_a_request_is_ended_with_408(self, connect: Connect) -> None:
        """Nothing, a word, headers, and a part of the body."""
        halves = b"", b"POST", HEAD, HEAD + b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        connections = {half: connect() for half in halves}

        for half, connection in connections.items():
            connection.sendall(half)

        answers = {half: answer(connection).partition(b"\r\n")[0] for half, connection in connections.items()}
        assert answers == dict.fromkeys(halves, b"HTTP/1.1 408 Request Timeout")

    def test_half_a_second_request_ends_a_connection_that_is_used_again(self, connect: Connect) -> None:
        connection = connect()
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")

        connection.sendall(HEAD)

        assert b"HTTP/1.1 408 Request Timeout\r\n" in answer(connection)

    def test_a_response_that_takes_longer_is_not_ended(self, port: int) -> None:
        """The limit is for what a client sends."""
        client = RawClient(f"http://127.0.0.1:{port}/mcp")

        result = client.call_tool("nap", {"seconds": 2.2})

        assert result["structuredContent"] == {"result": "rested"}


def test_more_halves_of_one_address_than_are_allowed_are_refused_with_503(connect: Connect) -> None:
    connections = [connect() for _ in range(12)]
    for connection in connections:
        with contextlib.suppress(ConnectionError):
            connection.sendall(HEAD)

    answers = [answer(connection) for connection in connections]

    assert any(one.startswith(b"HTTP/1.1 503 Service Unavailable\r\n") for one in answers)
    assert sum(one.startswith(b"HTTP/1.1 408 ") for one in answers) <= 8


def is_closed(connection: socket.socket) -> bool:
    """The other end reset the connection, and what it had sent went with it."""
    try:
        connection.settimeout(0.1)
        return connection.recv(1) == b""
    except ConnectionError:
        return True
