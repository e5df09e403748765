"""FastMCP's built-in middleware around task tools: once at the call, and around the work on a mounted server."""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

import fastmcp.server.middleware as built_in
import httpx2
import pytest
from fastmcp import FastMCP
from fastmcp.server.auth import require_scopes
from fastmcp.server.middleware import AuthMiddleware, Middleware, PingMiddleware
from fastmcp.server.middleware.caching import ResponseCachingMiddleware
from fastmcp.server.middleware.error_handling import ErrorHandlingMiddleware, RetryMiddleware
from fastmcp.server.middleware.logging import StructuredLoggingMiddleware
from fastmcp.server.middleware.rate_limiting import RateLimitingMiddleware, SlidingWindowRateLimitingMiddleware
from fastmcp.server.middleware.response_limiting import ResponseLimitingMiddleware
from fastmcp.server.middleware.tool_injection import ToolInjectionMiddleware
from fastmcp.tools import Tool
from mcp.server.session import ServerSession
from pydantic import BaseModel

from taskmill.testing import ClientKind, TestBed
from tests.adapters.fastmcp_auth import ANN, BOB, Verifier
from tests.adapters.fastmcp_howto import declared, in_foreground, in_halves, logged, section
from tests.support.replica import Rpc
from tests.support.waiting import eventually_async

BedOf = Callable[..., TestBed]
LOGGERS = ("fastmcp.errors", "fastmcp.middleware.logging", "fastmcp.timing")


def counting(*middleware: Middleware, **options: Any) -> tuple[FastMCP[Any], list[int]]:
    """A server with a task tool, and the arguments it was run with."""
    mcp: FastMCP[Any] = FastMCP("Counting", middleware=list(middleware), **options)
    runs: list[int] = []

    @mcp.tool(task=True)
    async def count(to: int) -> str:
        runs.append(to)
        return "1, " * to

    return mcp, runs


def words(lines: list[str]) -> list[str]:
    """The lines of a log about calls, without times."""
    found = (line.split(" completed")[0].split(" source=")[0] for line in lines)
    return [line for line in found if "tools/call" in line or line.startswith("Tool")]


async def test_all_middleware_of_the_server_runs_once_in_its_order_at_the_call(bed_of: BedOf) -> None:
    names = declared("Middleware")
    with logged(*LOGGERS) as log:
        async with bed_of(names["mcp"]) as bed:
            halves = await in_halves(bed, log, "report", year=2025)
        assert words(halves.at_call) == [
            "event=request_start method=tools/call",
            "Tool 'report'",
            "Request tools/call",
            "event=request_success method=tools/call",
        ]
        assert words(halves.in_worker) == []
        log.clear()
        alone = await in_foreground(declared("Middleware", tasks=False)["mcp"], "report", year=2025)
    assert words(log) == words(halves.at_call)
    assert halves.result == alone


async def test_a_held_call_is_inside_of_all_middleware_of_the_server(bed_of: BedOf) -> None:
    names = declared("Middleware")
    with logged(*LOGGERS) as log:
        async with bed_of(names["mcp"]) as bed, bed.client("held") as client:
            assert (await client.call("report", year=2025)).text == "the report of 2025"
    assert words(log) == [
        "event=request_start method=tools/call",
        "Tool 'report'",
        "Request tools/call",
        "event=request_success method=tools/call",
    ]


async def test_middleware_of_a_mounted_server_is_around_the_work_in_the_worker(bed_of: BedOf) -> None:
    loggers = ("fastmcp.timing", "fastmcp.retry")
    with logged(*loggers) as log:
        names = declared("Middleware around the work")
        async with bed_of(names["mcp"]) as bed:
            halves = await in_halves(bed, log, "report", year=2025)
    alone = await in_foreground(declared("Middleware around the work", tasks=False)["mcp"], "report", year=2025)
    assert halves.at_call == []
    retried = [line.split(" failed")[0] for line in halves.in_worker[:2]]
    assert [*retried, *words(halves.in_worker[2:])] == ["Request tools/call"] * 3
    assert "truncated" in halves.result["content"][0]["text"]
    assert halves.result == alone


async def test_an_error_that_a_mounted_server_translates_is_the_error_of_the_foreground(bed_of: BedOf) -> None:
    names = declared("Middleware around the work")
    async with bed_of(names["mcp"]) as bed:
        ended = (await in_halves(bed, [], "report", year=1800)).result
    alone = await in_foreground(declared("Middleware around the work", tasks=False)["mcp"], "report", year=1800)
    assert "no one wrote reports then" in alone["content"][0]["text"]
    assert ended == alone


async def test_structured_logs_tell_of_the_call_once(bed_of: BedOf) -> None:
    mcp, _ = counting(StructuredLoggingMiddleware(methods=["tools/call"]))
    with logged("fastmcp.middleware.structured_logging") as log:
        async with bed_of(mcp) as bed:
            halves = await in_halves(bed, log, "count", to=1)
    assert len(halves.at_call) == 2
    assert halves.in_worker == []


async def test_a_tool_that_raises_ends_its_task_as_without_error_handling_and_retries(bed_of: BedOf) -> None:
    runs = []

    def raising(*middleware: Middleware, task: bool) -> FastMCP[Any]:
        mcp: FastMCP[Any] = FastMCP("Raising", middleware=list(middleware))

        @mcp.tool(task=task)
        async def crash() -> str:
            runs.append(task)
            raise ConnectionError("the line is cut")

        return mcp

    errors = ErrorHandlingMiddleware()
    async with bed_of(raising(errors, RetryMiddleware(base_delay=0.01), task=True)) as bed:
        halves = await in_halves(bed, [], "crash")
    assert errors.get_error_stats() == {}
    assert runs == [True]
    assert halves.result == await in_foreground(raising(task=False), "crash")


@pytest.mark.parametrize(
    "limit",
    [
        RateLimitingMiddleware(max_requests_per_second=0.001, burst_capacity=2),
        SlidingWindowRateLimitingMiddleware(max_requests=2),
    ],
    ids=["token_bucket", "sliding_window"],
)
async def test_a_call_over_the_limit_makes_no_task_and_reading_tasks_counts_as_well(
    limit: Middleware, bed_of: BedOf
) -> None:
    mcp, runs = counting(limit)
    async with bed_of(mcp) as bed, httpx2.AsyncClient(timeout=30) as http:
        rpc = Rpc(http, bed.url)
        task_id = await rpc.task("count", to=1)
        await bed.until(task_id, within=30)
        assert (await rpc.get(task_id))["result"]["status"] == "completed"
        refused = (await rpc.call("count", to=2))["error"]
        assert await bed.task_ids() == [task_id]
    assert refused["code"] == -32000
    assert "limit exceeded" in refused["message"]
    assert runs == [1]


async def test_a_cache_keeps_results_of_held_calls_and_no_tasks(bed_of: BedOf) -> None:
    mcp, runs = counting(ResponseCachingMiddleware())
    async with bed_of(mcp) as bed:
        async with bed.client(ClientKind.TASKS_2026) as client:
            first, second = await client.call("count", to=2), await client.call("count", to=2)
        assert (first.text, second.text, runs) == ("1, 1, ", "1, 1, ", [2, 2])
        assert first.task_id != second.task_id
        async with bed.client("held") as client:
            for _ in range(2):
                assert (await client.call("count", to=3)).text == "1, 1, 1, "
    assert runs == [2, 2, 3]


async def test_a_cache_of_a_mounted_server_answers_in_the_worker(bed_of: BedOf) -> None:
    child, runs = counting(ResponseCachingMiddleware())
    mcp: FastMCP[Any] = FastMCP("Front")
    mcp.mount(child)
    async with bed_of(mcp) as bed, bed.client() as client:
        first, second = await client.call("count", to=2), await client.call("count", to=2)
    assert first.task_id != second.task_id
    assert (first.text, second.text, runs) == ("1, 1, ", "1, 1, ", [2])


async def test_the_length_of_a_held_calls_result_is_limited_and_that_of_a_task_is_not(bed_of: BedOf) -> None:
    mcp, _ = counting(ResponseLimitingMiddleware(max_size=300))
    async with bed_of(mcp) as bed:
        async with bed.client("held") as client:
            held = await client.call("count", to=500)
        async with bed.client(ClientKind.TASKS_2026) as client:
            whole = await client.call("count", to=500)
    assert "truncated" in held.text
    assert whole.text == "1, " * 500


async def test_the_authorization_of_the_server_refuses_before_there_is_a_task(bed_of: BedOf) -> None:
    mcp, runs = counting(AuthMiddleware(auth=require_scopes("write")), auth=Verifier())
    async with bed_of(mcp) as bed:
        async with httpx2.AsyncClient(timeout=30, headers={"authorization": f"Bearer {BOB}"}) as http:
            refused = await Rpc(http, bed.url).call("count", to=1)
        assert "task" not in str(refused.get("result", {}).get("resultType"))
        assert "insufficient scope" in str(refused)
        assert await bed.task_ids() == []
        async with bed.client(token=ANN) as ann:
            assert (await ann.call("count", to=1)).text == "1, "
    assert runs == [1]


async def test_pings_reach_a_client_while_its_call_is_held(bed_of: BedOf, monkeypatch: pytest.MonkeyPatch) -> None:
    answered: list[None] = []
    sends = ServerSession.send_ping

    async def send(self: ServerSession) -> Any:
        result = await sends(self)
        answered.append(None)
        return result

    monkeypatch.setattr(ServerSession, "send_ping", send)
    mcp: FastMCP[Any] = FastMCP("Pinging", middleware=[PingMiddleware(interval_ms=20)])

    @mcp.tool(task=True)
    async def wait() -> str:
        await eventually_async(lambda: answered, within=30)
        return "pinged"

    async with bed_of(mcp) as bed, bed.client("held") as client:
        assert (await client.call("wait")).text == "pinged"


@pytest.mark.parametrize("kind", ClientKind)
async def test_pings_disturb_no_class_of_client(kind: ClientKind, bed_of: BedOf) -> None:
    mcp, _ = counting(PingMiddleware(interval_ms=5))
    async with bed_of(mcp) as bed, bed.client(kind) as client:
        assert (await client.call("count", to=2)).text == "1, 1, "


async def test_an_injected_tool_is_a_task_tool(bed_of: BedOf) -> None:
    runs: list[str] = []

    async def extra(name: str) -> str:
        runs.append(name)
        return f"extra {name}"

    def serving(*, task: bool) -> FastMCP[Any]:
        injected = ToolInjectionMiddleware([Tool.from_function(extra, task=task)])
        return FastMCP("Injecting", middleware=[injected])

    async with bed_of(serving(task=True)) as bed:
        halves = await in_halves(bed, runs, "extra", name="one")
    assert (halves.at_call, halves.in_worker) == ([], ["one"])
    assert halves.result == await in_foreground(serving(task=False), "extra", name="one")


class Shelf(BaseModel):
    rows: int


class Shop(BaseModel):
    shelves: list[Shelf]


async def test_the_list_of_tools_has_schemas_without_references(bed_of: BedOf) -> None:
    mcp: FastMCP[Any] = FastMCP("Shops")

    @mcp.tool(task=True)
    async def rows(shop: Shop) -> int:
        return sum(shelf.rows for shelf in shop.shelves)

    async with bed_of(mcp) as bed, httpx2.AsyncClient(timeout=30) as http:
        rpc = Rpc(http, bed.url)
        listed = await rpc.ask("tools/list", {})
        task_id = await rpc.task("rows", shop={"shelves": [{"rows": 2}, {"rows": 3}]})
        task = await rpc.done(task_id)
    assert "$ref" not in str(listed)
    assert task["result"]["structuredContent"] == {"result": 5}


def test_the_page_names_every_middleware_that_fastmcp_brings() -> None:
    files = pkgutil.iter_modules(built_in.__path__)
    modules = [importlib.import_module(f"{built_in.__name__}.{file.name}") for file in files]
    known = {
        name
        for module in modules
        for name, one in vars(module).items()
        if isinstance(one, type) and issubclass(one, Middleware) and one.__module__ == module.__name__
    }
    known -= {"Middleware", "BaseLoggingMiddleware"}
    assert {name for name in known if f"`{name}`" not in section("Middleware")} == set()
