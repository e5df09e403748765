"""A replica, a worker and a client for every test that asks for `rpc`."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from redis.asyncio import Redis

from taskmill.server.settings import ServerSettings
from tests.server.fast_path_comparison import compare_both_ways
from tests.support.replica import Rpc, client_of, working
from tests.support.sample_server import make_server


@pytest.fixture(autouse=True)
def both_ways(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In every test the fast answers about tasks are those of the SDK."""
    differences = compare_both_ways(monkeypatch)
    yield
    assert differences == []


@pytest.fixture
def settings(redis_url: str) -> ServerSettings:
    """Where the tasks of a test are kept, and a short grace for clients that go away."""
    return ServerSettings(redis_url=redis_url, max_arguments=10_000, max_result=20_000, drop_grace=0.2)


@pytest.fixture
async def idle_rpc(redis: Redis, settings: ServerSettings) -> AsyncIterator[Rpc]:
    """A client of a replica, with no worker anywhere."""
    async with client_of(make_server(settings)) as rpc:
        yield rpc


@pytest.fixture
async def rpc(redis: Redis, settings: ServerSettings) -> AsyncIterator[Rpc]:
    """A client of a replica, and a worker."""
    async with client_of(make_server(settings)) as rpc, working(make_server(settings), settings):
        yield rpc


@pytest.fixture(params=[{}, {"json_response": True}], ids=["sse", "json"])
async def any_rpc(request: pytest.FixtureRequest, redis: Redis, settings: ServerSettings) -> AsyncIterator[Rpc]:
    """`rpc` with each of the two ways of answering."""
    options: dict[str, Any] = request.param
    async with client_of(make_server(settings), **options) as rpc, working(make_server(settings), settings):
        yield rpc
