"""A stream ends soon after the token it was opened with, and loses nothing by that."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import anyio
import httpx2
import pytest
from mcp.server.auth.provider import AccessToken
from redis.asyncio import Redis

from taskmill.server.settings import ServerSettings
from tests.server.session_client import open_session, rest
from tests.support.replica import Rpc, client_of, working
from tests.support.sample_server import make_server
from tests.support.tokens import guarded_options

LIFE = 3
"""Seconds that a short token is good; the SDK counts whole ones."""


class ShortTokens:
    """Knows Ada, by tokens that say when they end."""

    async def verify_token(self, token: str) -> AccessToken | None:
        claims = {"iss": "issuer"}
        return AccessToken(
            token=token, client_id="app", scopes=[], subject="ada", claims=claims, expires_at=int(token) or None
        )


@pytest.fixture
async def url(redis: Redis, settings: ServerSettings) -> AsyncIterator[str]:
    options = {**guarded_options(), "token_verifier": ShortTokens()}
    async with client_of(make_server(settings, **options)) as rpc, working(make_server(settings), settings):
        yield rpc.url


def short() -> dict[str, str]:
    return {"authorization": f"Bearer {int(time.time()) + LIFE}"}


def endless() -> dict[str, str]:
    return {"authorization": "Bearer 0"}


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(headers=endless(), timeout=30) as client:
        yield client


async def ends(responding: AbstractAsyncContextManager[httpx2.Response]) -> None:
    """Wait until the stream has ended in order; of a token without an end it would stay."""
    async with responding as response:
        assert response.status_code == 200, await response.aread()
        with anyio.fail_after(30):
            async for _ in response.aiter_lines():
                pass


async def test_a_stream_of_the_http_api(url: str, http: httpx2.AsyncClient) -> None:
    task_id = await Rpc(http, url).task("stay")
    headers = {**short(), "accept": "text/event-stream"}
    async with asyncio.TaskGroup() as both:
        for path in (f"/api/tasks/{task_id}/events", f"/api/tasks/{task_id}/output"):
            both.create_task(ends(http.stream("GET", url.replace("/mcp", path), headers=headers)))


async def test_a_subscription(url: str, http: httpx2.AsyncClient) -> None:
    rpc = Rpc(http, url)
    task_id = await rpc.task("stay")
    async with asyncio.TaskGroup() as both:
        for wanted in ({"taskIds": [task_id]}, {"toolsListChanged": True}):
            parts = rpc.request("subscriptions/listen", {"notifications": wanted})
            parts["headers"] |= short()
            both.create_task(ends(http.stream("POST", url, **parts)))


async def test_the_stream_of_a_session(url: str, http: httpx2.AsyncClient) -> None:
    session = await open_session(http, url)
    await ends(http.stream("GET", url, headers={**session.headers(), **short()}))


async def test_a_held_call_is_handed_off_and_its_task_goes_on(url: str, http: httpx2.AsyncClient) -> None:
    session = await open_session(http, url)
    http.headers |= short()
    with anyio.fail_after(30):
        async with session.streaming("tools/call", name="stay", arguments={}, _meta={"progressToken": "p"}) as frames:
            result = (await rest(frames))[-1].message["result"]
    text = result["content"][0]["text"]
    http.headers |= endless()
    tasks = (await session.ask("tasks/list"))["result"]["tasks"]
    assert [task["status"] for task in tasks] == ["working"]
    assert tasks[0]["taskId"] in text


async def test_a_held_call_of_2026_is_handed_off(url: str, http: httpx2.AsyncClient) -> None:
    rpc = Rpc(http, url)
    http.headers |= short()
    with anyio.fail_after(30):
        reply = await rpc.without_tasks().ask(
            "tools/call", {"name": "stay", "arguments": {}, "_meta": {"progressToken": "p"}}, name="stay"
        )
    http.headers |= endless()
    listed = (await http.get(url.replace("/mcp", "/api/tasks"))).json()["tasks"]
    assert [task["status"] for task in listed] == ["running"]
    assert listed[0]["id"] in str(reply["result"]["content"])


async def test_a_stream_of_a_token_without_an_end_stays(url: str, http: httpx2.AsyncClient) -> None:
    rpc = Rpc(http, url)
    task_id = await rpc.task("steps", count=1)
    await ends(http.stream("GET", url.replace("/mcp", f"/api/tasks/{task_id}/events")))
    assert (await rpc.get(task_id))["result"]["status"] == "completed"
