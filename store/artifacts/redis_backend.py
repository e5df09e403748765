"""Small artifacts in Redis itself: one string each, written and read a block at a time."""

from collections.abc import AsyncIterable, AsyncIterator
from functools import partial
from typing import Any

from redis.asyncio import Redis

from taskmill.engine.artifact import PIECE
from taskmill.engine.errors import ArtifactsUnavailable
from taskmill.store.connection.client import store_errors
from taskmill.store.connection.retry import until_available
from taskmill.store.formats.keys import Keys

__all__ = ["RedisBackend"]

_UNATTACHED = 24 * 3600
"""Seconds until bytes that never became part of a task fade."""


class RedisBackend:
    """The blobs of one deployment in its Redis."""

    name = "redis"

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis: Any = redis  # redis-py types both its clients as one
        self._keys = keys

    async def write(self, blob_id: str, blocks: AsyncIterable[bytes]) -> None:
        """Keep the bytes; they fade in a day unless they are attached. Outages of Redis are waited out."""
        at = 0
        await until_available(partial(self._put, blob_id, 0, b""))
        async for block in blocks:
            await until_available(partial(self._put, blob_id, at, block))
            at += len(block)

    async def read(self, blob_id: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """Bytes from `start` to before `stop`.

        Raises:
            ArtifactsUnavailable: they have expired.
            StoreUnavailable: Redis does not answer.
        """
        key, at = self._keys.blob(blob_id), start
        while at < stop:
            with store_errors():
                piece = await self._redis.getrange(key, at, min(stop, at + PIECE) - 1)
            if not piece:
                raise ArtifactsUnavailable("The bytes of an artifact have expired.", artifact=blob_id)
            at += len(piece)
            yield piece

    async def delete(self, blob_id: str) -> None:
        """Forget the bytes."""
        with store_errors():
            await self._redis.delete(self._keys.blob(blob_id))

    async def _put(self, blob_id: str, at: int, block: bytes) -> None:
        """Put a block behind those before it; safe to repeat.

        Raises:
            ArtifactsUnavailable: what was confirmed before is missing: Redis came back without its last writes.
        """
        key = self._keys.blob(blob_id)
        with store_errors():
            if at == 0:
                await self._redis.set(key, block, ex=_UNATTACHED)
                return
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.strlen(key)
                pipe.setrange(key, at, block)  # unlike an append, also right when it is sent twice
                length, _ = await pipe.execute()
        if length not in (at, at + len(block)):
            raise ArtifactsUnavailable("Redis has lost a part of the artifact: is `appendfsync` not `always`?")
