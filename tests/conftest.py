"""Fixtures that every test may use."""

import os
import signal
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from taskmill.store.settings import StoreSettings
from tests.support.official_clients import Official
from tests.support.redis_server import PrivateRedis
from tests.support.store_fixture import StoreFixture

# A shell that starts the tests in the background has Ctrl-C ignored for them, and what they start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# In this process servers, workers and stores are put together by hand: one app for all. Commands have their own.
os.environ["TASKMILL_APP"] = ""


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The address of a Redis that belongs to this test run; without an append-only file, for speed."""
    with PrivateRedis() as server:
        yield server.url


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client to an empty Redis."""
    async with Redis.from_url(redis_url) as client:
        await client.flushall()
        yield client


@pytest.fixture(scope="session")
def official() -> Official:
    """The official clients, installed if need be; a test whose client cannot be had is skipped, and in CI fails."""
    return Official.installed()


@pytest.fixture
async def stores(redis: Redis, settings: StoreSettings) -> AsyncIterator[StoreFixture]:
    """A store and two workers; `settings` are those of the folder."""
    made = StoreFixture(redis, settings)
    async with made.store.feed:
        yield made
