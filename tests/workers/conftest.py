"""A stage for every test of the workers; the invariants are checked behind each of them."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.support.redis_server import PrivateRedis
from tests.workers.deployment import Hatchery, Stage


@pytest.fixture(scope="session")
def hatchery() -> Iterator[Hatchery]:
    """Starts worker processes."""
    with Hatchery() as hatchery:
        yield hatchery


@pytest.fixture
async def stage(redis: Redis, redis_url: str, tmp_path: Path, hatchery: Hatchery) -> AsyncIterator[Stage]:
    """A stage on the Redis of the test run."""
    stage = Stage(redis, redis_url, tmp_path, hatchery)
    yield stage
    await stage.end()
    await stage.check()


@pytest.fixture
def own_redis() -> Iterator[PrivateRedis]:
    """A Redis with an append-only file, for one test to kill; as the embedded one, it answers no write it may lose."""
    with PrivateRedis(appendonly="yes", appendfsync="no") as server:
        yield server


@pytest.fixture
async def frail(own_redis: PrivateRedis, tmp_path: Path, hatchery: Hatchery) -> AsyncIterator[Stage]:
    """A stage on that Redis."""
    async with Redis.from_url(own_redis.url) as client:
        stage = Stage(client, own_redis.url, tmp_path, hatchery)
        yield stage
        await stage.end()
        await stage.check()
