"""`CurrentTask()`: what Taskmill gives a tool of a FastMCP server beside FastMCP's context; and `TaskConfig`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import fields, replace
from typing import Any

import httpx2
import pytest
from fastmcp import FastMCP
from fastmcp.server.auth.providers.jwt import StaticTokenVerifier
from fastmcp.server.middleware.caching import ResponseCachingMiddleware
from mcp_types import ResourceLink

from taskmill.adapters.fastmcp import CurrentTask, Task, TaskConfig
from taskmill.engine.errors import NotInTask, PolicyError
from taskmill.engine.policy import TaskConfig as Policy
from taskmill.testing import TestBed
from tests.support.replica import Rpc
from tests.support.waiting import eventually_async

BedOf = Callable[..., TestBed]
counted: list[int] = []


def workshop(**options: Any) -> FastMCP[Any]:
    mcp: FastMCP[Any] = FastMCP("Workshop", **options)

    @mcp.tool(task=TaskConfig(retries=1, backoff=0.01))
    async def press(task: Task = CurrentTask()) -> str:  # noqa: B008 - FastMCP's way
        pages = await task.step("count", count)
        task.state["pages"] = pages
        await task.save()
        await task.emit(f"{pages} pages")
        if task.attempt == 1:
            raise OSError("paper jam")
        return f"{task.state['pages']} of {task.idempotency_key == task.id}"

    @mcp.tool(task=True)
    async def bind(task: Task = CurrentTask()) -> list[Any]:  # noqa: B008
        return [await task.attach(book(), name="book.txt")]

    @mcp.tool
    async def loose(task: Task = CurrentTask()) -> str:  # noqa: B008
        with pytest.raises(NotInTask):
            await task.attach(book(), name="book.txt")
        return f"{task.id} {await task.step('count', lambda: 7)}"

    return mcp


def count() -> int:
    counted.append(1)
    return 42


async def book() -> AsyncIterator[bytes]:
    yield b"a whole book"


async def test_steps_state_and_output_outlive_an_attempt(bed_of: BedOf) -> None:
    counted.clear()
    async with bed_of(workshop()) as bed, bed.client() as client, httpx2.AsyncClient() as http:
        record = await client.call("press")
        assert record.text == "42 of True"
        assert len(counted) == 1
        rpc = Rpc(http, bed.url)
        output = await read_output(rpc, record.task_id)
    assert "42 pages" in output["result"]["contents"][0]["text"]


async def test_an_artifact_is_read_as_a_resource(bed_of: BedOf) -> None:
    async with bed_of(workshop()) as bed, bed.client() as client, httpx2.AsyncClient() as http:
        (link,) = (await client.call("bind")).result.content  # type: ignore[union-attr]  # it has a result
        assert isinstance(link, ResourceLink)
        rpc = Rpc(http, bed.url)
        read = await rpc.ask("resources/read", {"uri": link.uri}, name=link.uri)
        unknown = await rpc.ask("resources/read", {"uri": link.uri + "x"}, name=link.uri + "x")
    assert read["result"]["contents"][0]["text"] == "a whole book"
    assert unknown["error"]["code"] == -32602


async def test_no_cache_answers_for_the_output_of_a_task(bed_of: BedOf) -> None:
    mcp: FastMCP[Any] = FastMCP("Cached", middleware=[ResponseCachingMiddleware()])
    gate = asyncio.Event()

    @mcp.tool(task=True)
    async def write(task: Task = CurrentTask()) -> str:  # noqa: B008
        await task.emit("half")
        await gate.wait()
        await task.emit(" and half")
        return "done"

    async with bed_of(mcp) as bed, httpx2.AsyncClient() as http:
        rpc = Rpc(http, bed.url)
        task_id = await rpc.task("write")
        first = await eventually_async(lambda: output_of(rpc, task_id))
        gate.set()
        await rpc.done(task_id)
        assert (first, await output_of(rpc, task_id)) == ("half", "half and half")


async def output_of(rpc: Rpc, task_id: str) -> str:
    contents: list[dict[str, str]] = (await read_output(rpc, task_id))["result"]["contents"]
    return contents[0]["text"]


async def test_outside_of_tasks_a_step_just_runs(bed_of: BedOf) -> None:
    async with bed_of(workshop()) as bed, bed.client() as client:
        assert (await client.call("loose")).text == "None 7"


def test_fastmcps_configuration_has_every_field_of_the_policy() -> None:
    theirs = {one.name: one.default for one in fields(TaskConfig)}
    ours = {one.name: one.default for one in fields(Policy)}
    assert theirs.keys() - ours.keys() == {"policy"}
    assert replace(TaskConfig().policy, poll_interval=1) == Policy()


def test_a_value_that_cannot_work_is_refused_where_it_is_written() -> None:
    with pytest.raises(PolicyError, match="retries"):
        TaskConfig(retries=-1)


async def read_output(rpc: Rpc, task_id: str | None) -> dict[str, Any]:
    uri = f"taskmill://task/{task_id}/output"
    return await rpc.ask("resources/read", {"uri": uri}, name=uri)


def counters(**options: Any) -> FastMCP[Any]:
    """A server with another one mounted in it; tools that count, as tasks and at once, in both."""

    async def count(scope: Any = None, task: Task = CurrentTask()) -> str:  # noqa: B008 - FastMCP's way
        calls = await task.get_state("calls", 0, scope=scope) + 1
        await task.set_state("calls", calls, scope=scope)
        return str(calls)

    async def forget(task: Task = CurrentTask()) -> str:  # noqa: B008
        await task.delete_state("calls")
        return "forgotten"

    outer, inner = FastMCP[Any]("Counters", **options), FastMCP[Any]("Inner")
    for server in (outer, inner):
        server.tool(count, name="at_once")
        server.tool(count, name="later", task=True)
    outer.tool(forget)
    outer.mount(inner, namespace="inner")
    return outer


async def test_tools_keep_values_for_a_session_in_tasks_and_outside_of_them(bed_of: BedOf) -> None:
    async with bed_of(counters()) as bed:
        async with bed.client("held") as client:
            names = ["later", "at_once", "inner_later", "inner_at_once"]
            assert [(await client.call(name)).text for name in names] == ["1", "2", "3", "4"]
            await client.call("forget")
            assert (await client.call("later")).text == "1"
        async with bed.client("held") as client:
            assert (await client.call("later")).text == "1"
        async with bed.client("tasks-2026") as client:
            for name in names:
                assert "has not signed in" in (await client.call(name)).text


async def test_tools_keep_values_for_a_user_over_sessions(bed_of: BedOf) -> None:
    users = {name: {"client_id": name, "sub": name} for name in ("ada", "bob")}
    async with bed_of(counters(auth=StaticTokenVerifier(users))) as bed:
        counted = []
        for kind, user, tool in [
            ("tasks-2026", "ada", "later"),
            ("held", "ada", "at_once"),
            ("tasks-2025", "ada", "later"),
            ("tasks-2026", "bob", "later"),
        ]:
            async with bed.client(kind, token=user) as client:
                counted.append((await client.call(tool, scope="principal")).text)
    assert counted == ["1", "2", "3", "1"]
