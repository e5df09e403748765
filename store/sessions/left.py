"""Held calls whose client went away: for a while the same call by the same owner finds its task again."""

from redis.asyncio import Redis

from taskmill.store.connection.client import store_errors
from taskmill.store.formats.keys import Keys

__all__ = ["AbandonedCallStore"]


class AbandonedCallStore:
    """Tasks that wait for their client to return, by owner and digest of the call."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def leave(self, principal: str, digest: str, task_id: str, *, for_ms: int) -> None:
        """Note that the client of a call has gone; the latest task of several equal calls counts."""
        with store_errors():
            await self._redis.set(self._keys.left(f"{principal}:{digest}"), task_id, px=for_ms)

    async def take(self, principal: str, digest: str) -> str | None:
        """The task that was left, for whoever asks first; None if there is none."""
        with store_errors():
            found = await self._redis.getdel(self._keys.left(f"{principal}:{digest}"))
        return None if found is None else found.decode()
