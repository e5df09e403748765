"""A `StoreFixture` on an empty Redis for every test of the store, and the invariants checked behind each of them."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from taskmill.store.settings import StoreSettings
from tests.support.invariants import broken_promises, read_redis


@pytest.fixture
def settings(redis_url: str) -> StoreSettings:
    """A long lease, so that none lapses by itself; tests about time shorten it."""
    return StoreSettings(redis_url=redis_url, lease=60, max_arguments=10_000, max_result=10_000)


@pytest.fixture(autouse=True)
async def sound(redis: Redis) -> AsyncIterator[None]:
    """every test leaves Redis as the invariants say; one that breaks it on purpose empties it at its end."""
    yield
    assert broken_promises(await read_redis(redis)) == []
