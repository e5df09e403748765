"""Output over HTTP: pages of chunks as JSON, or SSE that ends with the task and can be resumed."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from redis.asyncio import Redis

from taskmill.server import Context, TaskServer
from taskmill.store.settings import StoreSettings
from tests.support.replica import Json, Rpc, client_of
from tests.support.tokens import guarded_options


def make_server(settings: StoreSettings, **options: Any) -> TaskServer[Any]:
    mcp: TaskServer[Any] = TaskServer("Output", store=settings, **options)

    @mcp.tool(task=True)
    async def steps(folder: str, ctx: Context[Any, Any]) -> str:
        """Emits the next number whenever a file named so appears; ends with `end`."""
        number = 0
        while not (Path(folder) / "end").exists():
            if (Path(folder) / str(number)).exists():
                await ctx.emit({"step": number})
                number += 1
            else:
                await asyncio.sleep(0.01)
        return f"{number} steps"

    @mcp.tool(task=True)
    async def many(count: int, ctx: Context[Any, Any]) -> str:
        for number in range(count):
            await ctx.emit(str(number))
        return "all"

    return mcp


RPC_SERVER = make_server  # the one that `rpc` is a client of


def address(rpc: Rpc, task_id: str) -> str:
    return f"{rpc.url.removesuffix('/mcp')}/api/tasks/{task_id}/output"


async def page(rpc: Rpc, task_id: str, **query: int) -> Json:
    reply = await rpc.http.get(address(rpc, task_id), params=query)
    assert reply.status_code == 200, reply.text
    shown: Json = reply.json()
    return shown


@asynccontextmanager
async def stream(rpc: Rpc, task_id: str, **headers: str) -> AsyncIterator[AsyncIterator[tuple[str, str, Json]]]:
    """(event, id, data) as they come."""

    async def events(reply: httpx2.Response) -> AsyncIterator[tuple[str, str, Json]]:
        field: dict[str, str] = {}
        async for line in reply.aiter_lines():
            name, _, value = line.partition(":")
            if line and name:
                field[name] = value.strip()
            elif field.get("data"):
                yield field["event"], field.get("id", ""), json.loads(field["data"])
                field = {}

    sent = {"accept": "text/event-stream", **{name.replace("_", "-"): value for name, value in headers.items()}}
    async with rpc.http.stream("GET", address(rpc, task_id), headers=sent) as reply:
        assert reply.status_code == 200
        yield events(reply)


async def test_chunks_are_listed_while_the_task_runs(rpc: Rpc, tmp_path: Path) -> None:
    task_id = await rpc.task("steps", folder=str(tmp_path))
    assert await page(rpc, task_id) == {"chunks": [], "next": 0, "ended": False}
    for number in range(2):
        (tmp_path / str(number)).touch()
    with anyio.fail_after(30):
        while (shown := await page(rpc, task_id))["next"] < 2:
            await anyio.sleep(0.01)

    at = [chunk["at"] for chunk in shown["chunks"]]
    assert at == sorted(at)
    assert at[0].endswith("Z")
    assert shown == {
        "chunks": [
            {"number": 1, "attempt": 1, "at": at[0], "content": {"step": 0}},
            {"number": 2, "attempt": 1, "at": at[1], "content": {"step": 1}},
        ],
        "next": 2,
        "ended": False,
    }
    assert (await page(rpc, task_id, after=1))["chunks"] == shown["chunks"][1:]

    (tmp_path / "end").touch()
    await rpc.done(task_id)
    assert await page(rpc, task_id, after=2) == {"chunks": [], "next": 2, "ended": True}


async def test_pages_continue_to_the_end(rpc: Rpc) -> None:
    task_id = await rpc.task("many", count=1500)
    await rpc.done(task_id)

    first = await page(rpc, task_id)
    rest = await page(rpc, task_id, after=first["next"])

    assert (first["ended"], rest["ended"]) == (False, True)
    assert [chunk["content"] for chunk in first["chunks"] + rest["chunks"]] == [str(number) for number in range(1500)]


async def test_a_stream_shows_each_chunk_as_it_comes_and_ends_with_the_task(rpc: Rpc, tmp_path: Path) -> None:
    task_id = await rpc.task("steps", folder=str(tmp_path))
    with anyio.fail_after(30):
        async with stream(rpc, task_id) as events:
            for number in range(3):
                (tmp_path / str(number)).touch()
                event, event_id, data = await anext(events)
                assert (event, event_id, data["content"]) == ("chunk", str(number + 1), {"step": number})
            (tmp_path / "end").touch()
            assert await anext(events) == ("end", "", {"status": "completed"})
            with pytest.raises(StopAsyncIteration):
                await anext(events)


async def test_a_broken_stream_is_resumed_after_its_last_chunk_on_another_replica(
    rpc: Rpc, settings: StoreSettings
) -> None:
    task_id = await rpc.task("many", count=5)
    await rpc.done(task_id)
    async with client_of(make_server(settings)) as other, stream(other, task_id, last_event_id="3") as events:
        assert [(event, event_id) async for event, event_id, _ in events] == [
            ("chunk", "4"),
            ("chunk", "5"),
            ("end", ""),
        ]


async def test_a_cancelled_task_ends_its_stream(rpc: Rpc, tmp_path: Path) -> None:
    task_id = await rpc.task("steps", folder=str(tmp_path))
    with anyio.fail_after(30):
        async with stream(rpc, task_id) as events:
            await rpc.ask("tasks/cancel", {"taskId": task_id}, name=task_id)
            assert await anext(events) == ("end", "", {"status": "cancelled"})


async def test_only_the_owner_reads_output(redis: Redis, settings: StoreSettings) -> None:
    async with client_of(make_server(settings, **guarded_options())) as rpc:
        ann, bob = [
            Rpc(httpx2.AsyncClient(headers={"authorization": f"Bearer i/c/{user}"}), rpc.url) for user in ("ann", "bob")
        ]
        task_id = await ann.task("many", count=1)
        assert (await ann.http.get(address(ann, task_id))).status_code == 200
        assert (await bob.http.get(address(bob, task_id))).status_code == 404
        uri = f"taskmill://task/{task_id}/output"
        assert (await bob.ask("resources/read", {"uri": uri}, name=uri))["error"]["code"] == -32602


@pytest.mark.parametrize(("query", "header"), [("?after=x", ""), ("?after=-1", ""), ("", "x")])
async def test_a_malformed_number_is_refused(rpc: Rpc, query: str, header: str) -> None:
    task_id = await rpc.task("many", count=1)
    headers = {"last-event-id": header} if header else {}
    reply = await rpc.http.get(address(rpc, task_id) + query, headers=headers)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "bad_request")
