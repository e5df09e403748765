"""A server that dies, or changes its tools, under a call: words, or a second call; nothing hangs, nothing is left."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from taskmill.adapters.remote.host import RemoteHost
from taskmill.adapters.remote.settings import RemoteSettings
from taskmill.adapters.remote.target import command_target
from taskmill.testing import ClientKind, TestBed
from tests.adapters import raw_foreign_server
from tests.adapters.remote_servers import foreign_words, served
from tests.support.redis_server import free_port
from tests.support.waiting import eventually_async

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
BedOf = Callable[..., TestBed]


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RemoteHost:
    monkeypatch.setenv("TEST_FOLDER", str(tmp_path))
    return RemoteHost(command_target([sys.executable, raw_foreign_server.__file__]), RemoteSettings())


def calls_of(folder: Path, tool: str) -> list[int]:
    file = folder / f"{tool}.calls"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


async def killed_under(bed: TestBed, folder: Path, tool: str, restart: Callable[[], object]) -> tuple[str, bool]:
    """Call the tool, kill the server that works on it, and let it end where it is called again."""
    async with bed.client(ClientKind.HELD) as client:
        calling = asyncio.create_task(client.call(tool, name=tool))
        (pid,) = await eventually_async(lambda: calls_of(folder, tool), within=30)
        os.kill(pid, signal.SIGKILL)
        await eventually_async(lambda: has_ended(pid), within=30)
        (folder / f"{tool}.gate").touch()
        restart()
        record = await calling
    assert record.result is not None
    return record.text, record.result.is_error


def has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


async def test_a_call_of_a_command_that_is_killed_is_made_again_where_that_is_safe(
    host: RemoteHost, bed_of: BedOf, tmp_path: Path
) -> None:
    async with bed_of(host, handoff_after=30) as bed:
        assert await killed_under(bed, tmp_path, "read", lambda: None) == ("read is done", False)
        text, is_error = await killed_under(bed, tmp_path, "write", lambda: None)
    assert is_error
    assert "may have taken effect" in text
    assert [len(set(calls_of(tmp_path, tool))) for tool in ("read", "write")] == [2, 1]
    assert not host.open_sessions
    started = [int(line) for line in (tmp_path / "raw.pids").read_text().split()]
    assert [pid for pid in started if not has_ended(pid)] == []


async def test_a_call_of_an_address_that_is_restarted_is_made_again_where_that_is_safe(
    bed_of: BedOf, tmp_path: Path
) -> None:
    words, port = foreign_words(tmp_path), free_port()
    with ExitStack() as stack:

        def start() -> str:
            return stack.enter_context(served(words, tmp_path, port))

        host = RemoteHost(start(), RemoteSettings())
        async with bed_of(host, handoff_after=30) as bed:
            assert await killed_under(bed, tmp_path, "read", start) == ("read is done", False)
    assert len(set(calls_of(tmp_path, "read"))) == 2
    assert not host.open_sessions


async def test_tools_that_change_during_a_call_do_not_disturb_it_and_are_listed(
    host: RemoteHost, bed_of: BedOf
) -> None:
    async with bed_of(host, handoff_after=30) as bed, bed.client(ClientKind.HELD) as client:
        record = await client.call("grow", name="grown")
        assert record.text == "grown has come"
        assert (await client.call("grown")).text == "I am grown"
    assert not host.open_sessions
