"""How full a Redis is. Asked at most once a second, whatever asks, so that the answer costs a creation nothing."""

from dataclasses import dataclass
from time import monotonic

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from taskmill.engine.errors import StoreFull, StoreUnavailable
from taskmill.store.connection.client import store_errors

__all__ = ["Memory", "MemoryWatch", "check_room"]

_FRESH = 1.0
"""Seconds for which an answer is used."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What a Redis says of its memory."""

    used: int
    """Bytes."""
    most: int
    """Its `maxmemory`, in bytes; 0 = no limit."""

    @property
    def percent(self) -> float:
        """How full it is; 0 where there is no limit."""
        return 100 * self.used / self.most if self.most else 0.0


class MemoryWatch:
    """Of one Redis, for one process."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._known: Memory | None = None
        self._until = 0.0

    async def read(self) -> Memory | None:
        """What was read in the last second; None = it may not be asked, or nothing is known yet."""
        if monotonic() >= self._until:
            self._until = monotonic() + _FRESH  # before the question: others go on with what is known
            self._known = await self._ask()
        return self._known

    async def _ask(self) -> Memory | None:
        try:
            with store_errors():
                try:
                    info = await self._redis.info("memory")
                except NoPermissionError:
                    return None
        except StoreUnavailable:
            return self._known  # the caller learns that from its own command
        return Memory(int(info.get("used_memory", 0)), int(info.get("maxmemory", 0)))


def check_room(memory: Memory | None, full_at: float) -> None:
    """Refuse what adds to a Redis that is `full_at` percent full; 0 = never.

    Raises:
        StoreFull: it is; what has been accepted still finds room.
    """
    if memory is not None and full_at and memory.percent >= full_at:
        raise StoreFull(
            f"The task store is {memory.percent:.0f} % full: new tasks are refused from {full_at:g} % on, so that "
            "running ones can end. Try again later; room comes as ended tasks expire.",
            retry_after=30,
        )
