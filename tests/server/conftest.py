"""A replica, a worker and a client for every test that asks for `rpc`."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from redis.asyncio import Redis

from taskmill.server.settings import ServerSettings
from tests.server.api_client import OPERATOR_TOKEN, ApiClient
from tests.support.fast_path_comparison import both_ways as both_ways
from tests.support.replica import Rpc, client_of, working
from tests.support.sample_server import make_server
from tests.support.tokens import guarded_options


@pytest.fixture
def settings(redis_url: str) -> ServerSettings:
    """Settings of the store of a test, with a short grace for clients that disconnect."""
    return ServerSettings(redis_url=redis_url, max_arguments=10_000, max_result=20_000, drop_grace=0.2)


@pytest.fixture
async def idle_rpc(redis: Redis, settings: ServerSettings) -> AsyncIterator[Rpc]:
    """A client of a replica, with no worker anywhere."""
    async with client_of(make_server(settings)) as rpc:
        yield rpc


@pytest.fixture
async def rpc(request: pytest.FixtureRequest, redis: Redis, settings: ServerSettings) -> AsyncIterator[Rpc]:
    """A client of a replica, and a worker: of `make_server`, or of what the test file names RPC_SERVER."""
    make = getattr(request.module, "RPC_SERVER", make_server)
    async with client_of(make(settings)) as rpc, working(make(settings), settings):
        yield rpc


@pytest.fixture(params=[{}, {"json_response": True}], ids=["sse", "json"])
async def any_rpc(request: pytest.FixtureRequest, redis: Redis, settings: ServerSettings) -> AsyncIterator[Rpc]:
    """`rpc` with a stream and with a single JSON body as answer."""
    options: dict[str, Any] = request.param
    async with client_of(make_server(settings), **options) as rpc, working(make_server(settings), settings):
        yield rpc


@pytest.fixture
async def guarded(redis: Redis, settings: ServerSettings) -> AsyncIterator[ApiClient]:
    """The API with authentication, an operator and a worker."""
    app = make_server(settings, **guarded_options())
    async with client_of(app, operator_token=OPERATOR_TOKEN) as rpc, working(make_server(settings), settings):
        yield ApiClient(rpc)


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    """A plain HTTP client."""
    async with httpx2.AsyncClient(timeout=30) as client:
        yield client
