"""What a server logs in the middle of a task tool reaches the client that called it, and no other one."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp_types import LOG_LEVEL_META_KEY, LoggingMessageNotificationParams

from taskmill.adapters.remote.host import RemoteHost
from taskmill.adapters.remote.settings import RemoteSettings
from taskmill.adapters.remote.target import command_target
from taskmill.server.protocol.sdk_private import request_without_types
from taskmill.testing import TestBed
from taskmill.testing.answers import Answerer
from taskmill.testing.client_types import Endpoint
from taskmill.testing.sdk_client import sdk_client
from tests.adapters import raw_foreign_server
from tests.adapters.fastmcp_auth import ANN, BOB, Verifier
from tests.adapters.raw_foreign_server import LEVELS
from tests.adapters.remote_servers import foreign_words, served

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
BedOf = Callable[..., TestBed]


@pytest.fixture
async def bed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bed_of: BedOf) -> AsyncIterator[TestBed]:
    """The server of pipes, behind a check of tokens."""
    monkeypatch.setenv("TEST_FOLDER", str(tmp_path))
    settings = RemoteSettings(task=("levels", "talk", "flood"))
    host = RemoteHost(command_target([sys.executable, raw_foreign_server.__file__]), settings)
    host.server.auth = Verifier()
    async with bed_of(host, handoff_after=30) as bed:
        yield bed


class Listener:
    """A client that keeps what is logged."""

    def __init__(self, bed: TestBed, way: str, token: str) -> None:
        self.logged: list[tuple[str, Any]] = []
        self._way = way
        self._endpoint = Endpoint(bed.url, Answerer(()), token)

    async def call(self, tool: str, *, least: str | None = None, **arguments: Any) -> str:
        """The text of the result."""
        mode: Any = "auto" if self._way == "2026" else "legacy"
        async with sdk_client(self._endpoint, mode=mode, logging_callback=self._receive) as client:
            if least is not None and mode == "legacy":
                await client.session.set_logging_level(least)  # type: ignore[arg-type]
            return str((await self._call(client, tool, arguments, least))["content"][0]["text"])

    async def _call(self, client: Client, tool: str, arguments: dict[str, Any], least: str | None) -> Any:
        if self._way == "2025 task":
            params = {"name": tool, "arguments": arguments, "task": {}}
            made = await request_without_types(client.session, "tools/call", params)
            return await request_without_types(client.session, "tasks/result", {"taskId": made["task"]["taskId"]})
        meta: Any = {LOG_LEVEL_META_KEY: least} if least is not None and self._way == "2026" else None
        return (await client.call_tool(tool, arguments, meta=meta)).model_dump(mode="json", by_alias=True)

    async def _receive(self, params: LoggingMessageNotificationParams) -> None:
        self.logged.append((params.level, params.data))


@pytest.mark.filterwarnings("ignore:The logging capability is deprecated")
@pytest.mark.parametrize("way", ["held", "2025 task", "2026"])
async def test_log_messages_of_a_task_tool_reach_their_caller_alone(bed: TestBed, way: str) -> None:
    ann, bob = Listener(bed, way, ANN), Listener(bed, way, BOB)
    await asyncio.gather(ann.call("talk", word="ann's", least="info"), bob.call("talk", word="bob's", least="info"))
    assert set(ann.logged) == {("info", "ann's")}
    assert set(bob.logged) == {("info", "bob's")}
    if way == "held":
        assert len(ann.logged) == 20  # each once, and the last before the result
        ann.logged.clear()
        await ann.call("talk", word="ann's", least="error")
        assert ann.logged == []
    if way == "2026":
        ann.logged.clear()
        await ann.call("talk", word="ann's")
        assert ann.logged == []  # the request names no level


@pytest.mark.filterwarnings("ignore:The logging capability is deprecated")
@pytest.mark.parametrize("way", ["held", "2025 task", "foreground"])
async def test_the_level_of_a_client_reaches_the_server_behind(bed: TestBed, way: str) -> None:
    """Unasked it logs from `info` on, and for another client of the same user on the same session again."""
    ann, tool = Listener(bed, way, ANN), "levels_now" if way == "foreground" else "levels"
    for least in ("debug", "error", None):
        assert await ann.call(tool, word="ann's", least=least) == (least or "info")
        if way == "foreground":  # others follow a task, and a quick one may log before
            assert [level for level, _ in ann.logged] == LEVELS[LEVELS.index(least or "info") :]
        ann.logged.clear()


async def test_a_server_of_2026_is_asked_for_its_log(tmp_path: Path, bed_of: BedOf) -> None:
    """From that revision on none is sent to a request that does not ask for it."""
    (tmp_path / "it.gate").touch()
    with served(foreign_words(tmp_path), tmp_path) as url:
        async with bed_of(RemoteHost(url, RemoteSettings()), handoff_after=30) as bed:
            held = Listener(bed, "held", "")
            await held.call("write", name="it")
    assert held.logged == [("info", "it is on the shelf")]


async def test_a_flood_of_logs_is_cut_and_says_how_much_was_left_out(bed: TestBed) -> None:
    ann = Listener(bed, "held", ANN)
    await ann.call("flood", times=5000)
    cuts = [data for level, data in ann.logged if level == "warning"]
    assert all("log messages were left out here" in cut for cut in cuts)
    received = len(ann.logged) - len(cuts)
    assert 0 < received < 1500
    assert received + sum(int(cut.split()[0]) for cut in cuts) == 5000
