"""A raw MCP client, cheap enough that the server under test stays the limit: prepared bytes over kept connections.

It reads no more of an answer than a measurement needs. What is asked, and of whom, is decided elsewhere.
"""

import asyncio
import json
import statistics
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import uvloop

__all__ = ["Endpoint", "Line", "Load", "call_tool", "cancel_task", "get_task", "listen_to", "run_client"]

T = TypeVar("T")

REVISION = "2026-07-28"
_META = {
    "io.modelcontextprotocol/protocolVersion": REVISION,
    "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1.0.0"},
    "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}},
}
_PATIENCE = 30.0


def call_tool(name: str, arguments: dict[str, Any] | None = None, *, as_task: bool = True) -> bytes:
    """The request that calls a tool and accepts a task; else it is answered when the tool has ended."""
    meta = _META if as_task else {**_META, "io.modelcontextprotocol/clientCapabilities": {}}
    return _request("tools/call", name, {"name": name, "arguments": arguments or {}}, meta)


def get_task(task_id: str) -> bytes:
    """The request that polls a task."""
    return _request("tasks/get", task_id, {"taskId": task_id})


def cancel_task(task_id: str) -> bytes:
    """The request that cancels a task."""
    return _request("tasks/cancel", task_id, {"taskId": task_id})


def listen_to(task_id: str) -> bytes:
    """The request whose answer goes on: every change of a task."""
    return _request("subscriptions/listen", "", {"notifications": {"taskIds": [task_id]}})


def _request(method: str, name: str, params: dict[str, Any], meta: dict[str, Any] = _META) -> bytes:
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
    body = json.dumps(message, separators=(",", ":")).encode()
    head = (
        "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: {REVISION}\r\n"
        f"Mcp-Method: {method}\r\nContent-Length: {len(body)}\r\n" + (f"Mcp-Name: {name}\r\n" if name else "") + "\r\n"
    )
    return head.encode() + body


@dataclass(frozen=True)
class Load:
    """What came of sending one request again and again."""

    seconds: float
    latencies: list[float]
    """Seconds from sending a request to the end of its answer, one entry a call."""

    @property
    def rate(self) -> float:
        """Calls a second."""
        return len(self.latencies) / self.seconds

    @property
    def p50_ms(self) -> float:
        """Median latency in milliseconds."""
        return statistics.median(self.latencies) * 1000


class Endpoint:
    """The MCP endpoint of a server on this machine. Its methods are for `run_client`."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def is_open(self) -> bool:
        """Whether a process listens there."""
        try:
            async with self.line():
                return True
        except OSError:
            return False

    async def ask(self, request: bytes) -> dict[str, Any]:
        """One request on a connection of its own; the JSON-RPC result.

        Raises:
            RuntimeError: an error came back.
        """
        async with self.line() as line:
            return await line.result(request)

    def line(self) -> "Line":
        """A connection to keep."""
        return Line(self.port)

    async def load(self, request: bytes, *, lines: int, seconds: float, most: int, expect: bytes) -> Load:
        """Send `request` on `lines` connections for `seconds`, at most `most` times; every answer holds `expect`."""
        budget, latencies = iter(range(most)), list[float]()

        async def keep_asking(line: Line, deadline: float) -> None:
            while time.perf_counter() < deadline and next(budget, None) is not None:
                sent = time.perf_counter()
                answer = await line.ask(request)
                latencies.append(time.perf_counter() - sent)
                if expect not in answer:
                    raise RuntimeError(f"an answer without {expect!r}: {answer[:1000]!r}")

        async with asyncio.timeout(seconds + _PATIENCE), AsyncExitStack() as stack:
            opened = [await stack.enter_async_context(self.line()) for _ in range(lines)]
            started = time.perf_counter()
            asking = [keep_asking(line, started + seconds) for line in opened]
            await asyncio.gather(*asking)
            return Load(time.perf_counter() - started, latencies)


class Line(asyncio.Protocol):
    """One kept connection that carries one request at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._received = bytearray()
        self._answer: asyncio.Future[bytes] | None = None
        self._transport: Any = None
        self._hear: Callable[[bytes], object] | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_connection(lambda: self, "127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._transport.close()

    async def ask(self, request: bytes) -> bytes:
        """The whole answer, head and all."""
        self._answer = asyncio.get_running_loop().create_future()
        self._write(request)
        return await self._answer

    async def result(self, request: bytes) -> dict[str, Any]:
        """The JSON-RPC result.

        Raises:
            RuntimeError: an error came back.
        """
        return _result(await self.ask(request))

    def hear(self, request: bytes, told: Callable[[bytes], object]) -> None:
        """Have `told` called with each piece of an answer that goes on."""
        self._hear = told
        self._write(request)

    def _write(self, request: bytes) -> None:
        self._transport.write(request.replace(b"{port}", str(self._port).encode(), 1))

    def data_received(self, data: bytes) -> None:
        """Wait for the rest of an answer."""
        if self._hear is not None:
            self._hear(data)
            return
        self._received += data
        if self._answer is not None and _is_whole(self._received):
            answer, self._answer = self._answer, None
            whole, self._received = bytes(self._received), bytearray()
            answer.set_result(whole)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail who waits."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError("the server closed the connection"))


def _is_whole(received: bytearray) -> bool:
    end = received.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = bytes(received[:end]).lower()
    at = head.find(b"content-length:")
    if at < 0:
        return received.endswith(b"0\r\n\r\n")  # chunked: one answer at a time, so the last chunk ends it
    length = int(head[at + 15 :].split(b"\r\n", 1)[0])
    return len(received) - end - 4 >= length


def _result(answer: bytes) -> dict[str, Any]:
    """The result in a JSON answer, or in the event that ends a stream."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"chunked" in head.lower():
        body = _joined(body)
    text = body.decode()
    if not text.startswith("{"):
        text = next(line for line in reversed(text.splitlines()) if line.startswith("data:")).removeprefix("data:")
    message: dict[str, Any] = json.loads(text)
    if "result" not in message:
        raise RuntimeError(f"the server refused: {message.get('error', message)}")
    result: dict[str, Any] = message["result"]
    return result


def _joined(chunks: bytes) -> bytes:
    whole = b""
    while chunks:
        size, _, rest = chunks.partition(b"\r\n")
        length = int(size, 16)
        whole, chunks = whole + rest[:length], rest[length + 2 :] if length else b""
    return whole


def run_client(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine function on the fast event loop; its value."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work())
