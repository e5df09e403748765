"""A FastMCP server with `Tasks` that its author starts: mounted in an application, or by FastMCP's own command."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest
from fastapi import FastAPI
from fastmcp import Context, FastMCP
from mcp_types import ElicitResult, InputRequiredResult
from redis.asyncio import Redis

from taskmill.adapters.fastmcp import TaskConfig, Tasks
from taskmill.server.settings import ServerSettings
from taskmill.testing import ClientKind
from taskmill.testing.clients import client_of
from tests.adapters.fastmcp_servers import shop
from tests.support.replica import Rpc, serving
from tests.support.results import text_of

STRING = {"type": "string"}
RED = {"action": "accept", "content": {"value": "red"}}


@asynccontextmanager
async def mounted(redis_url: str, **options: Any) -> AsyncIterator[str]:
    """The shop in an application of FastAPI, at `/tools/mcp`; its address."""
    mcp = shop()
    mcp.add_extension(Tasks(store=ServerSettings(redis_url=redis_url, handoff_after=0.2), **options))
    app = mcp.http_app(path="/mcp")
    outer = FastAPI(lifespan=app.lifespan)
    outer.mount("/tools", app)

    @outer.get("/own")
    async def own() -> str:
        return "own"

    async with serving(outer) as address:
        yield address


@pytest.mark.parametrize("kind", ClientKind)
async def test_a_mounted_server_with_its_own_worker_serves_every_class_of_client(
    kind: ClientKind, redis: Redis, redis_url: str
) -> None:
    async with (
        mounted(redis_url, worker=True) as address,
        client_of(kind, f"{address}/tools/mcp", answers=[RED]) as client,
    ):
        assert (await client.call("build", parts=2)).text == "built 3.0"
        assert (await client.call("colour")).text == "accept red"
        if kind is not ClientKind.TASKS_2025:
            assert (await client.call("now")).text == "now"


async def test_sessions_are_shared_by_mounted_servers_and_the_api_is_there(redis: Redis, redis_url: str) -> None:
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(mounted(redis_url, worker=True))
        there = await stack.enter_async_context(mounted(redis_url))
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=30))
        headers = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-11-25"}
        who = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "tests", "version": "1"}}
        opened = await http.post(f"{here}/tools/mcp", json=request("initialize", who), headers=headers)
        headers["mcp-session-id"] = opened.headers["mcp-session-id"]
        call = request("tools/call", {"name": "count", "arguments": {"items": 2}})
        stream = await http.post(f"{there}/tools/mcp", json=call, headers=headers)
        assert '"structuredContent":{"items":2}' in stream.text.replace(" ", "")
        assert (await http.get(f"{here}/tools/readyz")).status_code == 200
        assert (await http.get(f"{here}/own")).json() == "own"


def request(method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


async def test_a_forgotten_lifespan_is_one_error_with_the_lines_to_write(redis: Redis, redis_url: str) -> None:
    mcp = shop()
    mcp.add_extension(Tasks(store=ServerSettings(redis_url=redis_url)))
    outer = FastAPI()
    outer.mount("/tools", mcp.http_app(path="/mcp"))
    async with serving(outer) as address, httpx2.AsyncClient() as http:
        refused = await http.post(f"{address}/tools/mcp", json={})
    assert refused.status_code == 503
    assert "FastAPI(lifespan=app.lifespan)" in refused.json()["error"]["message"]


async def test_a_worker_that_a_server_brings_along_serves_all_queues_of_its_tools(redis: Redis, redis_url: str) -> None:
    mcp: FastMCP[Any] = FastMCP("Queues")
    mcp.add_extension(Tasks(worker=True, store=ServerSettings(redis_url=redis_url)))

    @mcp.tool(task=TaskConfig(queue="slow"))
    def plain() -> str:
        return "a plain function, on a queue of its own"

    async with serving(mcp.http_app()) as address, client_of(ClientKind.TASKS_2026, f"{address}/mcp") as client:
        with anyio.fail_after(30):
            assert (await client.call("plain")).text == "a plain function, on a queue of its own"


async def test_a_question_of_a_foreground_call_is_answered_at_another_replica(redis: Redis, redis_url: str) -> None:
    """A round of 2026-07-28 is sealed with a key that all replicas have."""
    async with AsyncExitStack() as stack:
        replicas = []
        for _ in range(2):
            mcp: FastMCP[Any] = FastMCP("Rounds")
            mcp.add_extension(Tasks(store=ServerSettings(redis_url=redis_url)))
            mcp.tool(colour)
            replicas.append(await stack.enter_async_context(serving(mcp.http_app())))
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=30))
        here, there = (Rpc(http, f"{address}/mcp") for address in replicas)
        asked = (await here.call("colour"))["result"]
        answer = {"inputResponses": {"colour": RED}, "requestState": asked["requestState"]}
        reply = await there.ask("tools/call", {"name": "colour", "arguments": {}, **answer}, name="colour")
    assert text_of(reply["result"]) == "red, in round two"


async def colour(ctx: Context) -> str | InputRequiredResult:
    """Ask by a result, and read the answer in the next round."""
    if ctx.input_responses is None:
        params = {"message": "Which?", "requestedSchema": {"type": "object", "properties": {"value": STRING}}}
        asked = {"inputRequests": {"colour": {"method": "elicitation/create", "params": params}}, "requestState": "two"}
        return InputRequiredResult.model_validate(asked, by_name=False)
    answer = ctx.input_responses["colour"]
    assert isinstance(answer, ElicitResult)
    assert answer.content is not None
    return f"{answer.content['value']}, in round {ctx.request_state}"
