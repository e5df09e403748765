"""A server inside another application: with which words, under which path, and what a forgotten lifespan answers."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.routing import Mount
from structlog.testing import capture_logs

from taskmill.server import TaskServer
from taskmill.store.settings import StoreSettings
from tests.support.replica import Rpc, serving

FOREIGN = {"host": "evil.example"}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}


def new_server(settings: StoreSettings) -> TaskServer[Any]:
    mcp: TaskServer[Any] = TaskServer("Mounted", store=settings)

    @mcp.tool
    def add(a: int, b: int) -> int:
        return a + b

    @mcp.tool(task=True)
    async def later() -> str:
        return "done"

    return mcp


def itself(mcp: TaskServer[Any]) -> Starlette:
    return Starlette(routes=[Mount("/", mcp)], lifespan=mcp.lifespan)


def its_app(mcp: TaskServer[Any]) -> Starlette:
    return Starlette(routes=[Mount("/", mcp.http_app())], lifespan=mcp.lifespan)


def its_app_with_its_lifespan(mcp: TaskServer[Any]) -> Starlette:
    app = mcp.http_app()
    return Starlette(routes=[Mount("/", app)], lifespan=app.lifespan)


def inside_the_authors_own(mcp: TaskServer[Any]) -> Starlette:
    @asynccontextmanager
    async def lifespan(outer: Starlette) -> AsyncIterator[None]:
        async with mcp.lifespan(outer):
            yield

    return Starlette(routes=[Mount("/", mcp.http_app())], lifespan=lifespan)


def in_fastapi(mcp: TaskServer[Any]) -> FastAPI:
    app = FastAPI(lifespan=mcp.lifespan)
    app.add_api_route("/own", lambda: "own")
    app.mount("/", mcp)
    return app


def its_app_in_fastapi_with_its_lifespan(mcp: TaskServer[Any]) -> FastAPI:
    tools = mcp.http_app()
    app = FastAPI(lifespan=tools.lifespan)
    app.mount("/", tools)
    return app


WAYS = [
    itself,
    its_app,
    its_app_with_its_lifespan,
    inside_the_authors_own,
    in_fastapi,
    its_app_in_fastapi_with_its_lifespan,
]


async def works_at(url: str) -> None:
    """Both eras of the protocol, and tasks; no redirect."""
    async with httpx2.AsyncClient(timeout=30) as http:
        rpc = Rpc(http, url)
        assert (await rpc.call("add", a=1, b=2))["result"]["structuredContent"] == {"result": 3}
        assert await rpc.task("later")
        headers = {"accept": "application/json, text/event-stream"}
        response = await http.post(url, json=INITIALIZE, headers=headers)
        assert (response.status_code, "mcp-session-id" in response.headers) == (200, True)


@pytest.mark.parametrize("made", WAYS)
async def test_each_way_to_mount_it_serves(
    redis: Redis, settings: StoreSettings, made: Callable[[TaskServer[Any]], Starlette]
) -> None:
    async with serving(made(new_server(settings))) as address:
        await works_at(f"{address}/mcp")


async def test_fastapi_keeps_its_own_routes_beside_a_mounted_server(redis: Redis, settings: StoreSettings) -> None:
    async with serving(in_fastapi(new_server(settings))) as address, httpx2.AsyncClient() as http:
        assert (await http.get(f"{address}/own")).json() == "own"
        assert (await http.get(f"{address}/docs")).status_code == 200
        await works_at(f"{address}/mcp")


async def test_the_server_object_is_an_application_of_its_own(redis: Redis, settings: StoreSettings) -> None:
    """As in `uvicorn server:mcp`."""
    async with serving(new_server(settings)) as address:
        await works_at(f"{address}/mcp")


@pytest.mark.parametrize(
    ("prefix", "path", "served"),
    [
        ("", "/mcp", ["/mcp", "/mcp/"]),
        ("", "/mcp/", ["/mcp", "/mcp/"]),
        ("", "/", ["", "/"]),
        ("/x", "/mcp", ["/x/mcp", "/x/mcp/"]),
        ("/x", "/", ["/x", "/x/"]),
        ("/deep/x", "/", ["/deep/x", "/deep/x/"]),
    ],
)
async def test_the_slash_at_the_end_makes_no_difference(
    redis: Redis, settings: StoreSettings, prefix: str, path: str, served: list[str]
) -> None:
    mcp = new_server(settings)
    outer = Starlette(routes=[Mount(prefix, mcp.http_app(path=path))], lifespan=mcp.lifespan)
    async with serving(outer) as address:
        for spelling in served:
            await works_at(address + spelling)


async def test_a_foreign_host_is_refused_and_not_redirected(redis: Redis, settings: StoreSettings) -> None:
    async with serving(new_server(settings).http_app()) as address, httpx2.AsyncClient() as http:
        for path in ("/mcp", "/mcp/", "/api/tasks/"):
            response = await http.get(address + path, headers=FOREIGN)
            assert (response.status_code, "location" in response.headers) == (421, False)


async def test_a_redirect_names_no_host(redis: Redis, settings: StoreSettings) -> None:
    """FastMCP's applications check no Host by themselves, and a cache may keep what one request was answered."""
    outer = Starlette(routes=[Mount("/tools", new_server(settings).http_app())])
    for app, prefix in ((new_server(settings).http_app(), ""), (outer, "/tools")):
        async with serving(app) as address, httpx2.AsyncClient(follow_redirects=False) as http:
            for path in ("/api/tasks/?limit=1", "/metrics/", "/healthz/"):
                response = await http.get(f"{address}{prefix}{path}")
                expected = prefix + path.replace("/?", "?").rstrip("/")
                assert (response.status_code, response.headers["location"]) == (307, expected)
            for path in ("/api//evil.example/", "//evil.example/", "/nowhere/"):
                response = await http.get(f"{address}{prefix}{path}")
                assert (response.status_code, "location" in response.headers) == (404, False)


async def test_a_forgotten_lifespan_is_one_error_with_the_lines_to_write(settings: StoreSettings) -> None:
    outer = Starlette(routes=[Mount("/", new_server(settings).http_app())])
    with capture_logs() as logs:
        async with serving(outer) as address, httpx2.AsyncClient() as http:
            modern = await Rpc(http, f"{address}/mcp").call("add", a=1, b=2)
            task = await Rpc(http, f"{address}/mcp").call("later")
            get = await Rpc(http, f"{address}/mcp").get("x")
            headers = {"accept": "application/json, text/event-stream"}
            legacy = (await http.post(f"{address}/mcp", json=INITIALIZE, headers=headers)).json()
            listing = await http.get(f"{address}/api/tasks")
            ready = await http.get(f"{address}/readyz")
            assert (await http.get(f"{address}/healthz")).status_code == 200
    for answer in (modern, task, get, legacy):
        assert "FastAPI(lifespan=mcp.lifespan)" in answer["error"]["message"]
        assert "app.mount('/', mcp.http_app())" in answer["error"]["message"]
    assert listing.status_code == 503
    assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")
    assert "FastAPI(lifespan=mcp.lifespan)" in ready.json()["cause"]
    assert [entry["event"] for entry in logs].count("server.lifespan_missing") == 1
