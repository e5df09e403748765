"""Secrets that every replica of a deployment knows: they sign cursors and seal state that clients keep for us."""

import secrets

from redis.asyncio import Redis

from taskmill.store.connection.client import store_errors
from taskmill.store.formats.keys import Keys
from taskmill.store.settings import StoreSettings

__all__ = ["SharedSecret"]


class SharedSecret:
    """The seal keys, else 32 bytes that the first reader puts into Redis.

    The first signs and seals, all are accepted: while keys are exchanged, replicas have them in another order.
    """

    def __init__(self, redis: Redis, settings: StoreSettings, keys: Keys) -> None:
        self._redis = redis
        self._key = keys.secret
        self._known = settings.seal_keys

    async def read(self) -> tuple[bytes, ...]:
        """The secrets, at least one; read from Redis once."""
        if not self._known:
            with store_errors():
                await self._redis.set(self._key, secrets.token_bytes(32), nx=True)
                self._known = (bytes(await self._redis.get(self._key)),)
        return self._known
