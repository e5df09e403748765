"""Opens the store that the settings ask for: on one Redis, or on several. That choice is all this file knows."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from redis.asyncio import Redis

from taskmill.engine.errors import OperatorError, StoreUnavailable
from taskmill.store.connection.client import connect, open_redis
from taskmill.store.metrics.writer import CountWriter
from taskmill.store.scripts import Scripts
from taskmill.store.settings import StoreSettings
from taskmill.store.sharding.sharded import ShardedStore
from taskmill.store.shards import DEFAULT_SHARD
from taskmill.store.tasks.redis_store import RedisTaskStore
from taskmill.store.tasks.tasks import TaskStore

__all__ = ["open_store"]

log = structlog.get_logger()
_SHARD_TIMEOUT = 1.0
"""Seconds that a shard gets to answer at the start: the others need not wait for it."""


@asynccontextmanager
async def open_store(settings: StoreSettings) -> AsyncIterator[TaskStore]:
    """A store on a Redis that answered and is fit. A shard that does not answer is left for later, with a warning.

    Raises:
        StoreUnavailable, RedisUnfit, SettingsError: see `open_redis`.
    """
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(open_redis(settings.at_shard(DEFAULT_SHARD)))
        store: TaskStore = RedisTaskStore(redis, settings)
        if settings.shards:
            others = {name: await _open(stack, name, settings.at_shard(name)) for name in settings.shards}
            store = ShardedStore(settings, {DEFAULT_SHARD: redis, **others})
        writer = CountWriter(store.counts, redis, settings, Scripts(store.keys))
        async with store.feed, writer:
            yield store


async def _open(stack: AsyncExitStack, name: str, settings: StoreSettings) -> Redis:
    try:
        return await stack.enter_async_context(open_redis(settings, timeout=_SHARD_TIMEOUT))
    except StoreUnavailable as exc:
        log.warning("shard.unreachable", shard=name, detail=str(exc))
        redis = connect(settings)
        stack.push_async_callback(redis.aclose)
        return redis
    except OperatorError as exc:
        raise type(exc)(f"Shard {name}: {exc}", **exc.facts) from exc
