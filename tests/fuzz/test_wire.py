"""A real replica under odd framing, cuts, pauses and bodies without end, over a real socket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fuzz import wire_part
from tests.fuzz.raw_requests import ODD_FRAMES
from tests.fuzz.wire_part import _faults, attack_wire


@pytest.mark.timeout(240)
def test_odd_and_mutated_requests_end_in_an_answer_or_a_closed_connection() -> None:
    report = attack_wire(100)

    assert report.faults == [], "\n".join(report.lines())
    assert report.examples >= len(ODD_FRAMES) + 50


@asynccontextmanager
async def replica(answer: bytes, *, lets_go: bool = True) -> AsyncIterator[Any]:
    """Something that answers so, and may keep its connections."""
    kept = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(answer)
        await (reader.read() if lets_go else kept.wait())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield SimpleNamespace(port=server.sockets[0].getsockname()[1], faults=list)
    finally:
        kept.set()
        server.close()


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 503 Busy\r\n\r\n", "status 503"),
        (b"HTTP/1.1 400 Bad\r\n\r\nValueError: no", "reveals an internal: 'ValueError'"),
    ],
)
async def test_a_bad_answer_on_the_wire_is_seen(answer: bytes, seen: str) -> None:
    async with replica(answer) as bad:
        assert await _faults(bad, (b"GET / HTTP/1.1\r\n\r\n",)) == [seen]


async def test_a_connection_that_is_not_let_go_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_part, "_TIMEOUT", 0.3)
    async with replica(b"", lets_go=False) as bad:
        (fault,) = await _faults(bad, (b"GET / HTTP/1.1\r\n\r\n",))
    assert fault.startswith("hang")
