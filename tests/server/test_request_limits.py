"""Requests with too many headers, under any ASGI server."""

import pytest
from redis.asyncio import Redis

from taskmill.server.settings import ServerSettings
from tests.support.replica import Rpc, client_of
from tests.support.sample_server import make_server


@pytest.mark.parametrize("path", ["", "/healthz", "/api/tasks", "/nothing"])
async def test_too_many_headers_are_refused_with_431_on_every_route(idle_rpc: Rpc, path: str) -> None:
    many = {f"x-{number}": "1" for number in range(200)}
    url = idle_rpc.url if not path else idle_rpc.url.removesuffix("/mcp") + path

    reply = await idle_rpc.http.post(url, json={}, headers=many)

    assert reply.status_code == 431
    assert "128 headers" in reply.json()["error"]["message"]


async def test_one_header_of_a_hundred_kilobytes_is_refused_with_431(idle_rpc: Rpc) -> None:
    reply = await idle_rpc.http.post(idle_rpc.url, json={}, headers={"x": "a" * 100_000})

    assert reply.status_code == 431


async def test_a_hundred_headers_of_six_hundred_bytes_are_served(redis: Redis, settings: ServerSettings) -> None:
    many = {f"x-{number}": "a" * 500 for number in range(100)}
    async with client_of(make_server(settings)) as rpc:
        reply = await rpc.http.get(rpc.url.removesuffix("/mcp") + "/healthz", headers=many)

    assert reply.status_code == 200
