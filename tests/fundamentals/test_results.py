"""For a first reader: what a task gives back, while it runs and at its end."""

from pathlib import Path
from typing import Any

import httpx2
from mcp_types import ResourceLink

from taskmill.server import Context, TaskServer
from taskmill.testing import Eager, TestBed
from taskmill.testing.tasks2026_client import Tasks2026Client

mcp: TaskServer[Any] = TaskServer("Results")


@mcp.tool(task=True)
async def add(a: int, b: int) -> int:
    return a + b


@mcp.tool(task=True)
async def export(path: str, ctx: Context[Any, Any]) -> ResourceLink:
    return await ctx.attach(path)


@mcp.tool(task=True)
async def count(to: int, ctx: Context[Any, Any]) -> str:
    for number in range(to):
        await ctx.emit(f"{number} ")
    return "counted"


async def test_a_task_returns_what_the_tool_returns() -> None:
    async with Eager(mcp) as eager:
        run = await eager.call("add", {"a": 1, "b": 2})
    assert run.result.structured_content == {"result": 3}


async def test_a_file_becomes_a_link_that_any_client_can_fetch(tmp_path: Path, redis_url: str) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("a,b\n1,2\n")

    async with TestBed(mcp, redis_url=redis_url) as bed, bed.client() as client:
        called = await client.call("export", path=str(file))
        assert called.result is not None
        (link,) = called.result.content
        assert link.type == "resource_link"
        artifact_id = link.uri.removeprefix("taskmill://artifact/")
        async with httpx2.AsyncClient() as http:
            reply = await http.get(bed.url.removesuffix("/mcp") + f"/api/artifacts/{artifact_id}")

    assert (reply.text, reply.headers["content-type"]) == ("a,b\n1,2\n", "text/csv; charset=utf-8")


async def test_what_a_tool_emits_can_be_read_before_it_ends(redis_url: str) -> None:
    async with TestBed(mcp, redis_url=redis_url) as bed, bed.client() as client:
        assert isinstance(client, Tasks2026Client)
        task_id = await client.begin("count", to=3)
        await bed.until(task_id)
        output = await client.session.read_resource(f"taskmill://task/{task_id}/output")

    assert output.contents[0].model_dump()["text"] == "0 1 2 "
