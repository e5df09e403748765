"""What a server that is not ours may do wrong: each ends in words, nothing hangs, and no process is left."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastmcp.client.transports import StreamableHttpTransport
from mcp.shared.exceptions import MCPError

from taskmill.adapters.remote import client, provider, sessions
from taskmill.adapters.remote.host import RemoteHost
from taskmill.adapters.remote.settings import RemoteSettings
from taskmill.adapters.remote.target import command_target, upstreams_of
from taskmill.adapters.remote.transports import transport_to
from taskmill.engine.errors import ServerLoadError
from taskmill.testing import ClientKind, TestBed
from tests.adapters import raw_foreign_server
from tests.adapters.remote_servers import foreign_words, served
from tests.support.redis_server import free_port
from tests.support.waiting import eventually, eventually_async

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
BedOf = Callable[..., TestBed]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RemoteHost]:
    """The server of pipes. No test leaves a session or a process of it."""
    monkeypatch.setenv("TEST_FOLDER", str(tmp_path))
    made = RemoteHost(command_target([sys.executable, raw_foreign_server.__file__]), RemoteSettings())
    yield made
    assert not made.open_sessions
    pids = [int(line) for line in (tmp_path / "raw.pids").read_text().split()]
    eventually(lambda: not [pid for pid in pids if is_alive(pid)], within=30)


async def answer(bed: TestBed, tool: str, **arguments: object) -> tuple[str, bool]:
    async with bed.client(ClientKind.TASKS_2026) as caller:
        record = await caller.call(tool, **arguments)
    assert record.result is not None
    return record.text, record.result.is_error


async def test_answers_that_are_wrong_become_words(host: RemoteHost, bed_of: BedOf) -> None:
    async with bed_of(host) as bed:
        assert await answer(bed, "wrong", how="line") == ("after the line", False)
        assert await answer(bed, "wrong", how="other") == ("for this call", False)
        text, is_error = await answer(bed, "wrong", how="shape")
        assert is_error
        assert "answered a call of 'wrong' with what is no result of a tool" in text
        with pytest.raises(MCPError, match="its own error") as raised:
            await answer(bed, "wrong", how="error")
    assert (raised.value.error.code, raised.value.error.data) == (-32099, {"why": "because"})


async def test_a_server_that_dies_under_a_call_is_named_and_the_next_call_finds_a_new_one(
    host: RemoteHost, bed_of: BedOf
) -> None:
    async with bed_of(host) as bed:
        text, is_error = await answer(bed, "die")
        assert is_error
        assert "may have taken effect" in text
        assert (await answer(bed, "pid"))[0].isdigit()


async def test_a_cancel_reaches_a_server_that_hangs(host: RemoteHost, bed_of: BedOf, tmp_path: Path) -> None:
    file = tmp_path / "cancelled"
    async with bed_of(host) as bed, bed.client(ClientKind.TASKS_2026) as caller:
        task_id = await caller.begin("hang", file=str(file))  # type: ignore[attr-defined]
        await bed.until(task_id, "running")
        await eventually_async((tmp_path / "cancelled.begun").exists, within=30)
        await caller.cancel(task_id)  # type: ignore[attr-defined]
        await bed.until(task_id, "cancelled")
        await eventually_async(file.exists, within=30)


async def test_a_flood_of_logs_does_not_hold_the_answer(host: RemoteHost, bed_of: BedOf) -> None:
    async with bed_of(host) as bed:
        assert await answer(bed, "flood", times=5000) == ("the end of the flood", False)


async def test_a_result_too_large_to_keep_is_refused_in_words(host: RemoteHost, bed_of: BedOf) -> None:
    async with bed_of(host, max_artifact_in_redis=1024 * 1024) as bed:
        with pytest.raises(MCPError, match="too large"):
            await answer(bed, "big", size=8 * 1024 * 1024)
        assert await answer(bed, "big", size=1000) == ("x" * 1000, False)


async def test_a_tool_that_has_come_is_found_and_one_that_is_gone_fails_in_words(tmp_path: Path, bed_of: BedOf) -> None:
    words = foreign_words(tmp_path)
    with served(words, tmp_path) as url:
        async with bed_of(RemoteHost(url, RemoteSettings())) as bed:
            assert await answer(bed, "change") == ("changed", False)
            await eventually_async(lambda: answered(bed, "newcomer"), lambda text: text == "I am new", within=30)
            text = await answered(bed, "add", a=1, b=2)
    assert "Unknown tool" in text, text


async def answered(bed: TestBed, tool: str, **arguments: object) -> str:
    try:
        return (await answer(bed, tool, **arguments))[0]
    except MCPError as exc:
        return exc.error.message


async def test_calls_of_one_session_at_once_have_a_connection_each() -> None:
    """A call holds its connection for as long as it takes: httpx's default would let a hundred wait for it."""
    connections: list[asyncio.StreamWriter] = []

    async def hold(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)

    async with await asyncio.start_server(hold, "127.0.0.1", 0, backlog=200) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
        (upstream,) = upstreams_of(url, {})
        transport = transport_to(upstream, lambda _status: None)
        assert isinstance(transport, StreamableHttpTransport)
        assert transport.httpx_client_factory is not None
        async with transport.httpx_client_factory() as client:
            calls = [asyncio.create_task(client.post(url)) for _ in range(120)]
            await eventually_async(lambda: len(connections), lambda found: found == len(calls), within=20)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        for connection in connections:
            connection.close()


def test_a_command_is_started_once_to_learn_its_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of the follow-up tools are no names of its tools: it was asked for them, on a new start each time."""
    monkeypatch.setattr(provider, "_FRESH_FOR_UNKNOWN", 0.0)  # as on a slow machine, where a second has passed
    monkeypatch.setenv("TEST_FOLDER", str(tmp_path))
    RemoteHost(command_target([sys.executable, raw_foreign_server.__file__]), RemoteSettings())
    assert len((tmp_path / "raw.pids").read_text().split()) == 1


async def test_no_process_is_left(host: RemoteHost, bed_of: BedOf, tmp_path: Path) -> None:
    async with bed_of(host) as bed:
        await answer(bed, "pid")
    pids = [int(line) for line in (tmp_path / "raw.pids").read_text().split()]
    await eventually_async(lambda: [pid for pid in pids if is_alive(pid)], lambda left: not left, within=30)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_server_that_was_restarted_is_connected_to_again(tmp_path: Path, bed_of: BedOf) -> None:
    words, port = foreign_words(tmp_path), free_port()
    address = f"http://127.0.0.1:{port}/mcp"
    with served(words, tmp_path, port):
        host = RemoteHost(address, RemoteSettings())
        bed = bed_of(host)
        await bed.__aenter__()
    try:
        text, is_error = await answer(bed, "add", a=1, b=2)
        assert is_error
        assert "cannot be reached" in text
        with served(words, tmp_path, port):
            assert await answer(bed, "add", a=2, b=2) == ("4", False)
    finally:
        await bed.__aexit__(None, None, None)


def test_a_server_that_is_silent_at_the_start_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_CONNECT_TIMEOUT", 1.0)
    monkeypatch.setattr(sessions, "_LONGEST_CONNECT", 0.5)
    silent = command_target([sys.executable, "-c", "import sys; sys.stdin.read()"])
    with pytest.raises(ServerLoadError, match="cannot be asked for its tools"):
        RemoteHost(silent, RemoteSettings())
