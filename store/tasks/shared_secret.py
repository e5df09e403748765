"""A secret that every replica of a deployment knows: it signs cursors and seals state that clients keep for us."""

import secrets

from redis.asyncio import Redis

from taskmill.store.connection.client import store_errors
from taskmill.store.formats.keys import Keys
from taskmill.store.settings import StoreSettings

__all__ = ["SharedSecret"]


class SharedSecret:
    """The first seal key, else 32 bytes that the first reader puts into Redis."""

    def __init__(self, redis: Redis, settings: StoreSettings, keys: Keys) -> None:
        self._redis = redis
        self._key = keys.secret
        self._known = settings.seal_keys[0] if settings.seal_keys else None

    async def read(self) -> bytes:
        """The secret; read from Redis once."""
        if self._known is None:
            with store_errors():
                await self._redis.set(self._key, secrets.token_bytes(32), nx=True)
                self._known = bytes(await self._redis.get(self._key))
        return self._known
