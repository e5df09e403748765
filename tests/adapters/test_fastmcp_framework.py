"""What FastMCP's framework does with a task tool: middleware, mounts, versions, sessions, proxies, caches."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastmcp import Context, FastMCP
from fastmcp.dependencies import Shared
from fastmcp.exceptions import ToolError
from fastmcp.server import create_proxy
from fastmcp.server.dependencies import get_http_request
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from fastmcp.server.middleware.caching import ResponseCachingMiddleware
from fastmcp.tools import Tool
from fastmcp.tools.base import ToolResult

from taskmill.adapters.fastmcp import CurrentTask, Task, TaskConfig, Tasks
from taskmill.adapters.fastmcp.host import FastMCPHost
from taskmill.engine.errors import DuplicateTool, PolicyError
from taskmill.server.fast_path.middleware import FastPath
from taskmill.server.handlers.follow_up_tools import FOLLOW_UP_TOOLS
from taskmill.testing import ClientKind, TestBed
from tests.support.replica import Rpc
from tests.support.waiting import eventually_async

BedOf = Callable[..., TestBed]
Server = FastMCP[Any]


class Counting(Middleware):
    """Counts calls, by where they run."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def on_call_tool(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        assert context.fastmcp_context is not None
        in_worker = context.fastmcp_context.is_background_task
        self.calls.append("worker" if in_worker else "call")
        return await call_next(context)


class Denying(Middleware):
    """Denies every call."""

    async def on_call_tool(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        raise ToolError("not for you")


def family(*middleware: Middleware) -> tuple[Server, Server]:
    """A server, and one that is mounted in it, whose tool says who it belongs to."""
    parent: Server = FastMCP("Parent")
    child: Server = FastMCP("Child", middleware=list(middleware))

    @child.tool(task=True)
    async def whoami(ctx: Context) -> str:
        return ctx.fastmcp.name

    parent.mount(child, namespace="kid")
    return parent, child


async def test_the_servers_middleware_runs_once_at_the_call_and_a_mounted_ones_in_the_worker(bed_of: BedOf) -> None:
    outer, inner = Counting(), Counting()
    parent, _ = family(inner)
    parent.add_middleware(outer)
    async with bed_of(parent) as bed, bed.client() as client:
        assert (await client.call("kid_whoami")).text == "Child"
    assert (outer.calls, inner.calls) == (["call"], ["worker"])


class Watching(Middleware):
    """Notes the methods of all requests."""

    def __init__(self) -> None:
        self.methods: set[str] = set()

    async def on_request(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
        self.methods.add(str(context.method))
        return await call_next(context)


@pytest.mark.parametrize("kind", [ClientKind.TASKS_2026, ClientKind.TASKS_2025])
async def test_the_servers_middleware_sees_requests_about_tasks(kind: ClientKind, bed_of: BedOf) -> None:
    watching = Watching()
    parent, _ = family()
    parent.add_middleware(watching)
    async with bed_of(parent) as bed, bed.client(kind) as client:
        await client.call("kid_whoami")
    assert {"tools/call", "tasks/get"} <= watching.methods


async def test_without_middleware_requests_about_tasks_take_the_fast_path(
    bed_of: BedOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = []
    monkeypatch.setattr(FastPath, "_task", noted(FastPath.__dict__["_task"], answered))
    parent, _ = family()
    async with bed_of(parent) as bed, bed.client() as client:
        await client.call("kid_whoami")
    assert "tasks/get" in answered


def noted(task: Any, answered: list[str]) -> Any:
    async def note(self: Any, request: Any) -> Any:
        answered.append(request.method)
        return await task(self, request)

    return note


@pytest.mark.parametrize("kind", [ClientKind.TASKS_2026, ClientKind.HELD])
async def test_a_mounted_server_that_denies_a_call_denies_it_in_a_task(kind: ClientKind, bed_of: BedOf) -> None:
    parent, _ = family(Denying())
    async with bed_of(parent) as bed, bed.client(kind) as client:
        denied = await client.call("kid_whoami")
    assert denied.result is not None
    assert denied.result.is_error
    assert "not for you" in denied.text


async def test_a_hand_off_is_not_kept_by_a_cache_as_the_result(bed_of: BedOf) -> None:
    mcp: Server = FastMCP("Cached", middleware=[ResponseCachingMiddleware()])
    gate: list[str] = []
    runs: list[int] = []

    @mcp.tool(task=True)
    async def slow(task: Task = CurrentTask()) -> str:  # noqa: B008 - FastMCP's way
        runs.append(task.attempt)
        while not gate:
            await asyncio.sleep(0.01)
        return "done"

    async with bed_of(mcp, handoff_after=0.1) as bed, bed.client("handed-off") as client:
        calling = asyncio.create_task(client.call("slow"))
        await eventually_async(lambda: any("still running" in update.message for update in client.called.seen))
        gate.append("open")
        first = await calling  # handed off, and followed
        again = await client.call("slow")
    assert (first.text, again.text) == ("done", "done")
    assert any("still running" in update.message for update in first.seen)
    assert runs == [1, 1]  # one task each: the second call was not answered with the first one's hand-off


async def test_each_version_of_a_tool_runs_as_it_was_called(bed_of: BedOf) -> None:
    mcp: Server = FastMCP("Versions")

    @mcp.tool(name="add", version="1.0", task=True)
    async def add_one() -> str:
        return "one"

    @mcp.tool(name="add", version="2.0", task=True)
    async def add_two() -> str:
        return "two"

    async with bed_of(mcp) as bed, httpx2.AsyncClient(timeout=30) as http:
        rpc = Rpc(http, bed.url)
        found = []
        for meta in ({"fastmcp": {"version": "1.0"}}, {}):
            made = await rpc.ask("tools/call", {"name": "add", "arguments": {}, "_meta": meta}, name="add")
            found.append((await rpc.done(made["result"]["taskId"]))["result"]["content"][0]["text"])
    assert found == ["one", "two"]


async def test_a_task_that_is_kept_without_limit_says_so_on_the_wire(bed_of: BedOf) -> None:
    parent, _ = family()
    async with bed_of(parent) as bed, httpx2.AsyncClient(timeout=30) as http:
        made = (await Rpc(http, bed.url).call("kid_whoami"))["result"]
    assert made["resultType"] == "task"
    assert "ttlMs" in made


async def test_state_of_a_session_and_the_lifespan_reach_the_worker(bed_of: BedOf) -> None:
    @asynccontextmanager
    async def lifespan(_server: Server) -> AsyncIterator[dict[str, Any]]:
        yield {"colour": "red"}

    mcp: Server = FastMCP("Stateful", lifespan=lifespan)

    @mcp.tool
    async def keep(value: str, ctx: Context) -> str:
        await ctx.set_state("kept", value)
        return "kept"

    @mcp.tool(task=True)
    async def tell(ctx: Context) -> str:
        return f"{await ctx.get_state('kept')} {ctx.lifespan_context['colour']}"

    async with bed_of(mcp) as bed, bed.client("held") as client:
        await client.call("keep", value="this")
        assert (await client.call("tell")).text == "this red"


class Doubling(Tool):
    """A tool that is no function."""

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        return ToolResult(structured_content={"result": 2 * int(arguments["n"])})


async def test_tools_of_ones_own_class_and_shared_dependencies_work_in_tasks(bed_of: BedOf) -> None:
    mcp: Server = FastMCP("Own")
    made: list[int] = []

    def connection() -> int:
        made.append(1)
        return len(made)

    @mcp.tool(task=True)
    async def connected(number: int = Shared(connection)) -> int:
        with pytest.raises(RuntimeError):
            get_http_request()
        return number

    parameters = {"type": "object", "properties": {"n": {"type": "integer"}}}
    mcp.add_tool(Doubling(name="double", parameters=parameters, task_config=TaskConfig()))
    async with bed_of(mcp) as bed, bed.client() as client:
        doubled = await client.call("double", n=4)
        numbers = [(await client.call("connected")).text for _ in range(2)]
    assert doubled.result is not None
    assert (doubled.result.structured_content, bool(doubled.task_id)) == ({"result": 8}, True)
    assert numbers == ["1", "1"]


async def test_what_fastmcp_cannot_mark_becomes_a_task_by_a_pattern(bed_of: BedOf) -> None:
    remote: Server = FastMCP("Remote")

    @remote.tool
    async def far(n: int, ctx: Context) -> int:
        await ctx.report_progress(n, 2 * n)
        return n + 1

    api = FastAPI()

    @api.get("/near/{n}", operation_id="near")
    async def near(n: int) -> int:
        return n + 2

    mcp: Server = FastMCP("Front")
    mcp.mount(create_proxy(remote), namespace="px")
    mcp.mount(FastMCP.from_fastapi(api), namespace="api")

    @mcp.tool
    def plain(n: int) -> int:
        return n + 3

    mcp.add_tool(Tool.from_tool(plain_tool(), name="changed"))
    mcp.add_extension(Tasks(also={"*_*": TaskConfig(), "plain": TaskConfig(), "changed": TaskConfig(retries=1)}))
    async with bed_of(mcp) as bed, bed.client() as client:
        calls = {name: await client.call(name, n=1) for name in ("px_far", "api_near", "plain", "changed")}
        listed = await FastMCPHost(mcp).tool_names()
    assert all(record.task_id for record in calls.values())
    assert {name: record.text for name, record in calls.items()} == {
        "px_far": "2",
        "api_near": '{"result":3}',
        "plain": "4",
        "changed": "5",
    }
    assert sorted(listed) == ["api_near", "changed", "plain", "px_far"]


def plain_tool() -> Tool:
    async def base(n: int) -> int:
        return n + 4

    return Tool.from_function(base)


async def test_a_mounted_server_with_tasks_of_its_own_adds_no_follow_up_tools(bed_of: BedOf) -> None:
    parent, child = family()
    child.add_extension(Tasks())
    async with bed_of(parent) as bed, bed.client("held") as client, httpx2.AsyncClient() as http:
        assert (await client.call("kid_whoami")).text == "Child"
        listed = (await Rpc(http, bed.url).without_tasks().ask("tools/list", {}))["result"]["tools"]
    assert [tool["name"] for tool in listed] == ["kid_whoami", *FOLLOW_UP_TOOLS]


async def test_a_tool_that_comes_while_the_server_runs_is_a_task(bed_of: BedOf) -> None:
    mcp: Server = FastMCP("Growing")
    async with bed_of(mcp) as bed:

        @mcp.tool(task=True)
        async def late() -> str:
            return "late"

        async with bed.client() as client:
            record = await client.call("late")
    assert record.task_id is not None
    assert record.text == "late"


def test_a_tool_with_the_name_of_a_follow_up_tool_is_refused_with_words() -> None:
    mcp: Server = FastMCP("Clash")

    @mcp.tool
    async def task_wait() -> str:
        return ""

    with pytest.raises(DuplicateTool, match=r"task_wait.*Tasks\(follow_up_tools=False\)"):
        FastMCPHost(mcp)


def unfit() -> Server:
    mcp: Server = FastMCP("Unfit")

    @mcp.tool(task=TaskConfig(idempotency="{order}"))
    async def pay(amount: int) -> str:
        return ""

    return mcp


def test_a_policy_that_does_not_fit_its_tool_is_refused_with_words() -> None:
    with pytest.raises(PolicyError, match=r"pay.*order"):
        FastMCPHost(unfit())


async def test_in_a_running_loop_it_is_refused_when_the_server_starts(bed_of: BedOf) -> None:
    with pytest.raises(PolicyError, match=r"pay.*order"):
        async with bed_of(unfit()):
            pass
