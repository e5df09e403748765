"""One connection over two streams: the era after a probe, and requests that are given up."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.server.mcpserver import MCPServer
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter
from redis.asyncio import Redis

from taskmill.engine.status import Status
from taskmill.server.protocol.sdk_private import lowlevel_of
from taskmill.server.sessions.stdio_connection import serve_streams
from taskmill.server.settings import ServerSettings
from taskmill.store.formats.keys import Keys
from tests.support.replica import working
from tests.support.sample_server import make_server
from tests.support.waiting import eventually_async

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "a host", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
INITIALIZE = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "a host", "version": "1"},
}


class Host:
    """A client at the other end of the two streams."""

    def __init__(self, sending: MemoryObjectSendStream[Any], receiving: MemoryObjectReceiveStream[Any]) -> None:
        self._sending = sending
        self._receiving = receiving

    async def send(self, method: str, params: dict[str, Any], request_id: int | None = None) -> None:
        """Send a request, or a notification."""
        head = {} if request_id is None else {"id": request_id}
        message = {"jsonrpc": "2.0", **head, "method": method, "params": params}
        with anyio.fail_after(30):
            await self._sending.send(SessionMessage(jsonrpc_message_adapter.validate_python(message, by_name=False)))

    async def answers(self, *ids: int) -> dict[int, dict[str, Any]]:
        """Read until all of these are answered."""
        found: dict[int, dict[str, Any]] = {}
        with anyio.fail_after(30):
            while not found.keys() >= set(ids):
                received = (await self._receiving.receive()).message.model_dump(by_alias=True, exclude_unset=True)
                if "id" in received:
                    found[received["id"]] = received
        return found


@asynccontextmanager
async def connected(serve: Callable[[Any, Any], Any]) -> AsyncIterator[Host]:
    """A host of a server; both ends are closed in the end."""
    to_server, reading = anyio.create_memory_object_stream[Any](8)
    writing, from_server = anyio.create_memory_object_stream[Any](8)
    async with anyio.create_task_group() as group, from_server:
        group.start_soon(serve, reading, writing)
        with anyio.fail_after(30):
            async with to_server:
                yield Host(to_server, from_server)


@asynccontextmanager
async def host_of(server: MCPServer[Any]) -> AsyncIterator[Host]:
    async def serve(reading: Any, writing: Any) -> None:
        await serve_streams(lowlevel_of(server), reading, writing)

    async with connected(serve) as host:
        yield host


async def test_a_host_that_gave_its_probe_up_can_still_shake_hands() -> None:
    """As Claude Code and Copilot CLI do when a server starts slowly: both lie in the pipe when it reads."""
    async with host_of(MCPServer("Quick")) as host:
        await host.send("server/discover", {"_meta": META}, 1)
        await host.send("initialize", INITIALIZE, 2)
        answers = await host.answers(1, 2)
        assert "supportedVersions" in answers[1]["result"]
        assert answers[2]["result"]["protocolVersion"] == "2025-06-18"
        await host.send("notifications/initialized", {})
        await host.send("tools/list", {}, 3)
        assert (await host.answers(3))[3]["result"]["tools"] == []


async def test_a_host_that_got_its_probes_answer_goes_on_in_2026() -> None:
    async with host_of(MCPServer("Quick")) as host:
        await host.send("server/discover", {"_meta": META}, 1)
        await host.answers(1)
        await host.send("tools/list", {"_meta": META}, 2)
        assert (await host.answers(2))[2]["result"]["tools"] == []
        await host.send("initialize", INITIALIZE, 3)
        assert (await host.answers(3))[3]["error"]["code"] == -32022


async def test_a_probe_may_be_repeated() -> None:
    async with host_of(MCPServer("Quick")) as host:
        for request_id in (1, 2):
            await host.send("server/discover", {"_meta": META}, request_id)
        await host.send("initialize", INITIALIZE, 3)
        assert "result" in (await host.answers(1, 2, 3))[3]


@pytest.mark.parametrize(
    ("reason", "state"), [("timed out after 5s", Status.RUNNING), ("The user pressed Esc", Status.CANCELLED)]
)
async def test_a_call_that_timed_out_goes_on_and_one_that_a_person_cancelled_does_not(
    redis: Redis, settings: ServerSettings, tmp_path: Any, reason: str, state: Status
) -> None:
    gate = tmp_path / "gate"

    async def states() -> list[bytes]:
        return [await redis.hget(key, "status") for key in await redis.keys(Keys().record("*"))]

    async def runs() -> bool:
        return await states() == [Status.RUNNING.encode()]

    async def is_settled() -> bool:
        is_left = bool(await redis.keys(Keys().left("*")))
        return await states() == [state.encode()] and is_left is (state is Status.RUNNING)

    async with working(make_server(settings), settings), host_of(make_server(settings)) as host:
        await host.send("initialize", INITIALIZE, 1)
        await host.answers(1)
        await host.send("tools/call", {"name": "until_exists", "arguments": {"path": str(gate)}}, 2)
        await eventually_async(runs)
        await host.send("notifications/cancelled", {"requestId": 2, "reason": reason})
        await eventually_async(is_settled)
        gate.touch()
