"""A deployment for every test of the workers; the invariants are checked behind each of them."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.support.redis_server import PrivateRedis
from tests.support.webhook_receiver import Receiver, receiver
from tests.workers.deployment import Deployment, WorkerForks

SHORT_LEASE = 1.5


@pytest.fixture(scope="session")
def worker_forks() -> Iterator[WorkerForks]:
    """Starts worker processes."""
    with WorkerForks() as worker_forks:
        yield worker_forks


@pytest.fixture
async def deployment(
    redis: Redis, redis_url: str, tmp_path: Path, worker_forks: WorkerForks
) -> AsyncIterator[Deployment]:
    """A deployment on the Redis of the test run."""
    deployment = Deployment(redis, redis_url, tmp_path, worker_forks)
    yield deployment
    await deployment.end()
    await deployment.check()


@pytest.fixture
def short_lease(deployment: Deployment) -> None:
    """For tests in which the lease of a worker lapses, and those that read what it writes with a renewal."""
    deployment.settings["lease"] = SHORT_LEASE


@pytest.fixture
def own_redis() -> Iterator[PrivateRedis]:
    """A Redis with an append-only file, for one test to kill; as the embedded one, it answers no write it may lose."""
    with PrivateRedis(appendonly="yes", appendfsync="no") as server:
        yield server


@pytest.fixture
async def fragile(own_redis: PrivateRedis, tmp_path: Path, worker_forks: WorkerForks) -> AsyncIterator[Deployment]:
    """A deployment on that Redis, with a short lease."""
    async with Redis.from_url(own_redis.url) as client:
        deployment = Deployment(client, own_redis.url, tmp_path, worker_forks)
        deployment.settings["lease"] = SHORT_LEASE
        yield deployment
        await deployment.end()
        await deployment.check()


@pytest.fixture
async def hook() -> AsyncIterator[Receiver]:
    """A receiver of webhooks."""
    async with receiver() as hook:
        yield hook
