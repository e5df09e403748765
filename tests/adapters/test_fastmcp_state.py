"""State of sessions in a store that server and worker share, and icons in the lists."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest
from fastmcp import FastMCP
from redis.asyncio import Redis

from taskmill.testing import ClientKind, TestBed
from taskmill.testing.clients import client_of
from tests.adapters.fastmcp_howto import blocks, declared, in_foreground, in_halves
from tests.support.command_line import CommandLine
from tests.support.replica import Rpc, serving

BedOf = Callable[..., TestBed]
STATE = "Session state and storage"
REDIS = "redis://127.0.0.1:6379"


def carts(redis_url: str, *, tasks: bool = True) -> FastMCP[Any]:
    """The server of the page."""
    mcp: FastMCP[Any] = declared(STATE, tasks=tasks, swap={REDIS: redis_url})["mcp"]
    return mcp


async def shopping(url: str) -> list[str]:
    """What a session hears that orders twice, and one that has put nothing in."""
    async with client_of(ClientKind.HELD, url) as client:
        for item in ("tea", "milk"):
            await client.call("add", item=item)
        heard = [(await client.call("order")).text for _ in range(2)]
    async with client_of(ClientKind.HELD, url) as another:
        return [*heard, (await another.call("order")).text]


async def test_a_task_reads_and_changes_the_state_of_its_session(bed_of: BedOf, redis: Redis, redis_url: str) -> None:
    async with bed_of(carts(redis_url)) as bed:
        heard = await shopping(bed.url)
        async with bed.client("held") as client:
            await client.call("add", item="marmalade")
        texts = [await redis.get(key) or b"" for key in await redis.keys() if await redis.type(key) == b"string"]
        assert len(await bed.task_ids()) == 3
    async with serving(carts(redis_url, tasks=False).http_app()) as address:
        assert heard == await shopping(f"{address}/mcp")
    assert heard == ["ordered tea and milk", "ordered nothing", "ordered nothing"]
    assert any(b"__encrypted_data__" in text for text in texts)
    assert not any(b"marmalade" in text for text in texts)


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_a_server_and_a_worker_of_two_processes_share_the_state_of_sessions(
    cli: CommandLine, redis_url: str
) -> None:
    cli.write("server.py", blocks(STATE)[0])
    cli.environment |= {"TASKMILL_REDIS_URL": redis_url, "TASKMILL_PREFIX": "carts", "CARTS_REDIS": redis_url}
    with ExitStack() as stack:
        here = stack.enter_context(cli.started("serve", "server.py", "--port", "0")).url()
        stack.enter_context(cli.started("worker", "server.py"))
        assert await shopping(here) == ["ordered tea and milk", "ordered nothing", "ordered nothing"]


async def test_icons_are_in_the_lists_and_the_tool_runs_as_a_task(bed_of: BedOf) -> None:
    async with bed_of(declared("Icons")["mcp"]) as bed, httpx2.AsyncClient(timeout=30) as http:
        listed = (await Rpc(http, bed.url).ask("tools/list", {}))["result"]["tools"]
        halves = await in_halves(bed, [], "report", year=2025)
    (report,) = (tool for tool in listed if tool["name"] == "report")
    assert report["icons"][0]["src"] == "https://reports.example.com/press.png"
    assert halves.result == await in_foreground(declared("Icons", tasks=False)["mcp"], "report", year=2025)
