"""Servers that are made of servers: mounts, namespaces, tags, visibility, versions and transforms of task tools."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from fastmcp import Client, Context, FastMCP
from fastmcp.server.transforms.version_filter import VersionFilter

from taskmill.testing import TestBed
from tests.adapters.fastmcp_howto import declared, in_foreground, in_halves, visible
from tests.support.replica import Rpc, serving

BedOf = Callable[..., TestBed]
Json = dict[str, Any]
MOUNTS = "Mounts, namespaces and tags"


async def unknown(bed: TestBed, tool: str, **arguments: Any) -> str:
    """The text of a call that makes no task, because the tool is not known."""
    async with httpx2.AsyncClient(timeout=30) as http:
        reply = await Rpc(http, bed.url).call(tool, **arguments)
    assert await bed.task_ids() == []
    return str(reply)


@pytest.mark.parametrize("tool", ["north_weather_forecast", "quick_forecast"])
async def test_a_mounted_task_tool_runs_as_its_own_server_would_run_it(tool: str, bed_of: BedOf) -> None:
    names = declared(MOUNTS)
    async with bed_of(names["mcp"]) as bed:
        halves = await in_halves(bed, [], tool, city="Oslo")
    assert halves.result == await in_foreground(declared(MOUNTS, tasks=False)["mcp"], tool, city="Oslo")
    assert halves.result["content"][0]["text"] == "Weather: sun in Oslo"


async def test_a_tool_that_is_disabled_by_its_tag_makes_no_task(bed_of: BedOf) -> None:
    async with bed_of(declared(MOUNTS)["mcp"]) as bed:
        assert "Unknown tool" in await unknown(bed, "north_weather_calibrate")


async def test_a_tool_that_is_disabled_after_the_call_is_not_run(bed_of: BedOf) -> None:
    mcp = declared(MOUNTS)["mcp"]
    async with bed_of(mcp) as bed, httpx2.AsyncClient(timeout=30) as http:
        rpc = Rpc(http, bed.url)
        await bed.stop_worker()
        task_id = await rpc.task("north_weather_forecast", city="Oslo")
        mcp.disable(names={"north_weather_forecast"})
        await bed.start_worker()
        await bed.until(task_id, within=30)
        result = (await rpc.get(task_id))["result"]["result"]
    assert result["isError"]
    assert "Unknown tool" in result["content"][0]["text"]


async def test_a_tool_that_a_mounted_server_gets_later_is_a_task_tool(bed_of: BedOf) -> None:
    names = declared(MOUNTS)
    async with bed_of(names["mcp"]) as bed:

        @names["weather"].tool(task=True)
        async def tides(port: str) -> str:
            return f"high in {port}"

        halves = await in_halves(bed, [], "north_weather_tides", port="Brest")
    assert halves.result["content"][0]["text"] == "high in Brest"


async def test_a_tool_that_only_a_session_may_see_runs_in_the_worker_for_that_session(bed_of: BedOf) -> None:
    mcp: FastMCP[Any] = FastMCP("Doors")

    @mcp.tool
    async def unlock(ctx: Context) -> str:
        await ctx.enable_components(tags={"hidden"})
        return "unlocked"

    @mcp.tool(task=True, tags={"hidden"})
    async def vault() -> str:
        return "gold"

    mcp.disable(tags={"hidden"})
    async with bed_of(mcp) as bed:
        async with bed.client("held") as client:
            assert "Unknown tool" in (await client.call("vault")).text
            assert await bed.task_ids() == []
            await client.call("unlock")
            assert (await client.call("vault")).text == "gold"
        async with bed.client("held") as another:
            assert "Unknown tool" in (await another.call("vault")).text


@pytest.mark.parametrize(("version", "price"), [("1.0", 6), ("2.0", 3), (None, 3)])
async def test_the_version_that_a_call_names_runs_in_the_worker(version: str | None, price: int, bed_of: BedOf) -> None:
    meta = {} if version is None else {"fastmcp": {"version": version}}
    params = {"name": "price", "arguments": {"amount": 3}, "_meta": meta}
    async with bed_of(declared("Versions")["mcp"]) as bed, httpx2.AsyncClient(timeout=30) as http:
        rpc = Rpc(http, bed.url)
        made = (await rpc.ask("tools/call", params, name="price"))["result"]
        task = await rpc.done(made["taskId"])
    alone = declared("Versions", tasks=False)["mcp"]
    async with serving(alone.http_app()) as address, Client(f"{address}/mcp") as client:
        expected = visible(await client.call_tool_mcp("price", {"amount": 3}, meta=meta or None))
    assert visible(task["result"]) == expected
    assert expected["structured_content"] == {"result": price}


async def test_a_version_that_is_filtered_out_makes_no_task(bed_of: BedOf) -> None:
    mcp = declared("Versions")["mcp"]
    mcp.add_transform(VersionFilter(version_lt="2.0"))
    params: Json = {"name": "price", "arguments": {"amount": 3}, "_meta": {"fastmcp": {"version": "2.0"}}}
    async with bed_of(mcp) as bed, httpx2.AsyncClient(timeout=30) as http:
        rpc = Rpc(http, bed.url)
        assert "Unknown tool" in str(await rpc.ask("tools/call", params, name="price"))
        assert await bed.task_ids() == []
        task = await rpc.done(await rpc.task("price", amount=3))
    assert task["result"]["structuredContent"] == {"result": 6}


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("shop_scan", {"path": "/", "depth": 2}),
        ("shop_index", {"folder": "/", "depth": 2}),
        ("shop_count_long", {"text": "a house and a garden"}),
        ("call_tool", {"name": "shop_hidden", "arguments": {"n": 2}}),
    ],
    ids=["namespace", "tool_transform", "from_tool", "search"],
)
async def test_a_transformed_tool_runs_in_the_worker_with_the_result_of_the_foreground(
    tool: str, arguments: Json, bed_of: BedOf
) -> None:
    log: list[str] = []

    def with_hidden(names: Json, *, task: bool) -> FastMCP[Any]:
        @names["catalog"].tool(task=task)
        async def hidden(n: int) -> int:
            log.append(f"hidden {n}")
            return n + 1

        mcp: FastMCP[Any] = names["mcp"]
        return mcp

    async with bed_of(with_hidden(declared("Transforms"), task=True)) as bed:
        halves = await in_halves(bed, log, tool, **arguments)
    assert halves.at_call == []
    assert halves.in_worker == (["hidden 2"] if tool == "call_tool" else [])
    alone = with_hidden(declared("Transforms", tasks=False), task=False)
    assert halves.result == await in_foreground(alone, tool, **arguments)
    assert not halves.result["is_error"]


async def test_wrong_arguments_of_a_transformed_tool_are_refused_at_the_call(bed_of: BedOf) -> None:
    async with bed_of(declared("Transforms")["mcp"]) as bed, bed.client() as client:
        refused = await client.call("shop_index", folder="/", depth="deep")
    alone = await in_foreground(declared("Transforms", tasks=False)["mcp"], "shop_index", folder="/", depth="deep")
    assert alone["is_error"]
    assert refused.result is not None
    assert refused.result.is_error
    assert refused.task_id is None
    assert refused.text.startswith("Error executing tool shop_index: depth should be an integer, not 'deep'. It takes:")
