"""Secrets that every replica of a deployment knows: they sign cursors and seal state that clients keep for us."""

import secrets

from redis.asyncio import Redis

from taskmill.store.connection.client import store_errors
from taskmill.store.formats.keys import Keys
from taskmill.store.formats.sealing import KeyRing

__all__ = ["SharedSecret"]


class SharedSecret:
    """The seal keys, else 32 bytes that the first reader puts into Redis.

    The first signs and seals, all are accepted: while keys are exchanged, replicas have them in another order.
    """

    def __init__(self, redis: Redis, ring: KeyRing, keys: Keys) -> None:
        self._redis = redis
        self._key = keys.secret
        self._ring = ring
        self._kept: tuple[bytes, ...] = ()

    @property
    def known(self) -> tuple[bytes, ...]:
        """The secrets of now, once they have been read."""
        return self._ring.keys if self._ring.is_wanted else self._kept

    async def read(self) -> tuple[bytes, ...]:
        """The secrets of now, at least one; read from Redis once, if there are no keys."""
        if not self.known:
            with store_errors():
                await self._redis.set(self._key, secrets.token_bytes(32), nx=True)
                self._kept = (bytes(await self._redis.get(self._key)),)
        return self.known
