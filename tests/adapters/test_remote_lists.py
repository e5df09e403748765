"""What a server that is not ours lists may change: connected clients are sent that, whoever's session was sent it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest
from mcp.client import Client
from mcp_types import ToolListChangedNotification

from taskmill.adapters.remote.host import RemoteHost
from taskmill.adapters.remote.list_watch import ListWatch
from taskmill.adapters.remote.provider import RemoteProvider
from taskmill.adapters.remote.settings import RemoteSettings
from taskmill.adapters.remote.target import Upstream, command_target
from taskmill.adapters.remote.words import UpstreamUnreachable
from taskmill.server.protocol.change_bus import ChangeBus
from taskmill.server.sessions.stdio_connection import serve_streams
from taskmill.testing import TestBed
from taskmill.testing.answers import Answerer
from taskmill.testing.client_types import Endpoint
from taskmill.testing.sdk_client import sdk_client
from tests.adapters import raw_foreign_server
from tests.support.waiting import eventually_async

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
BedOf = Callable[..., TestBed]


class Listener:
    """A client that counts the notifications of changed tools."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.changes = asyncio.Semaphore(0)

    async def names_after_change(self, name: str) -> set[str]:
        """Wait for notifications until the tool is listed; the names of all."""
        with anyio.fail_after(60):
            while True:
                await self.changes.acquire()
                names = {one.name for one in (await self.client.list_tools()).tools}
                if name in names:
                    return names

    async def follow(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with self.client.listen(tools_list_changed=True) as changes:
            task_status.started()
            async for _ in changes:
                self.changes.release()

    async def receive(self, message: Any) -> None:
        if isinstance(message, ToolListChangedNotification):
            self.changes.release()


@asynccontextmanager
async def listening(endpoint: Any, revision: str) -> AsyncIterator[Listener]:
    """A client over HTTP that listens as its revision has it, or over the streams that it is given."""

    async def receive(message: Any) -> None:
        await listener.receive(message)

    mode: Any = "auto" if revision == "2026" else "legacy"
    options: dict[str, Any] = {"mode": mode, "message_handler": receive}
    made = sdk_client(endpoint, **options) if isinstance(endpoint, Endpoint) else Client(endpoint, **options)
    listener = Listener(made)
    async with made as client, anyio.create_task_group() as group:
        if revision == "2026":
            await group.start(listener.follow)
        await client.list_tools()
        yield listener
        group.cancel_scope.cancel()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RemoteHost:
    monkeypatch.setenv("TEST_FOLDER", str(tmp_path))
    target = command_target([sys.executable, raw_foreign_server.__file__])
    made = RemoteHost(target, RemoteSettings())
    # As in a process of its own: what the worker's sessions are sent is not what those of the server are sent.
    monkeypatch.setattr(made, "toolbox", RemoteHost(target, RemoteSettings()).toolbox)
    return made


async def test_clients_of_both_revisions_are_sent_that_the_tools_have_changed(
    host: RemoteHost, bed_of: BedOf, tmp_path: Path
) -> None:
    """The server sends it on the session of the call alone, which is a worker's; then it is killed, and has others."""
    async with bed_of(host, handoff_after=30) as bed, anyio.create_task_group() as group:
        ours, theirs = anyio.create_memory_object_stream[Any](9), anyio.create_memory_object_stream[Any](9)
        group.start_soon(serve_streams, host.lowlevel, ours[1], theirs[0])
        endpoint = Endpoint(bed.url, Answerer(()), "")
        async with (
            listening(endpoint, "2025") as old,
            listening(endpoint, "2026") as new,
            listening(transport_of(theirs[1], ours[0]), "2025") as piped,
        ):
            async with bed.client() as caller:
                await caller.call("grow", name="grown")
            for one in (old, new, piped):
                assert "grown" in await one.names_after_change("grown")
            pids = await eventually_async(lambda: pids_of(tmp_path), within=30)
            (tmp_path / "grown").write_text("grown later")
            for pid in pids:
                kill(pid)
            for one in (old, new, piped):
                assert {"grown", "later"} <= await one.names_after_change("later")
        group.cancel_scope.cancel()
    assert not host.open_sessions


async def test_a_flood_of_reports_is_passed_on_as_a_few() -> None:
    provider = RemoteProvider(Upstream("raw", command=("none",)), ())
    passed_on: list[frozenset[str]] = []
    provider.on_change.append(passed_on.append)
    for _ in range(500):
        provider.note_change("tools")
        provider.note_change("prompts")
    await eventually_async(lambda: passed_on, within=30)
    assert passed_on == [{"tools", "prompts"}]


class NoChanges:
    """In the place of what comes from other processes."""

    def subscribe(self, _on_change: object) -> Any:
        return nullcontext()


async def test_a_watch_ends_although_its_connecting_takes_the_cancel_for_a_failure(
    host: RemoteHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    (provider,), bus, is_connecting = host._providers, ChangeBus(), anyio.Event()

    async def watching(_on_change: object) -> None:
        is_connecting.set()
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            raise UpstreamUnreachable("raw", OSError("gone")) from None

    monkeypatch.setattr(provider.sessions, "watching", watching)
    bus.subscribe(lambda _event: None)
    with anyio.fail_after(60):
        async with ListWatch([provider], bus).running(NoChanges()):  # type: ignore[arg-type]
            await is_connecting.wait()


@asynccontextmanager
async def transport_of(reading: Any, writing: Any) -> AsyncIterator[Any]:
    yield reading, writing


def pids_of(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "raw.pids").read_text().split()]


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
