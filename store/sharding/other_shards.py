"""What a creation on one shard must know of the others: their open tasks, and their idempotency keys.

Other shards must not delay a creation: of one that is slow to answer, the last count is used.
"""

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Any

from redis.asyncio import Redis

from taskmill.engine.errors import StoreUnavailable
from taskmill.store.connection.client import store_errors
from taskmill.store.formats.keys import Keys

__all__ = ["OtherShards"]

_FRESH = 1.0
"""Seconds for which a count is used."""
_REPLY_TIMEOUT = 0.25
"""Seconds that another shard gets to answer."""
_REMEMBERED = 10_000


class OtherShards:
    """For one process."""

    def __init__(self, clients: Mapping[str, Redis], keys: Mapping[str, Keys]) -> None:
        """`clients` and `keys`: by shard."""
        self._clients = clients
        self._keys = keys
        self._known: dict[tuple[str, str], tuple[int, int]] = {}
        self._until: dict[tuple[str, str], float] = {}
        self._silent_until: dict[str, float] = {}

    async def open_tasks(self, principal: str, *, except_shard: str) -> tuple[int, int]:
        """Open tasks of a principal, and of all principals, on all shards but one."""
        open_tasks = await asyncio.gather(
            *(self._count(shard, principal) for shard in self._clients if shard != except_shard)
        )
        return sum(own for own, _ in open_tasks), sum(total for _, total in open_tasks)

    async def tasks_of_key(self, key: str, *, except_shard: str) -> list[tuple[str, str]]:
        """Tasks, and digests of their calls, that an idempotency key, `principal:key`, stands for on other shards."""
        asked = (
            self._ask(shard, [("GET", self._keys[shard].once(key))]) for shard in self._clients if shard != except_shard
        )
        found = [reply[0].decode().partition(" ") for reply in await asyncio.gather(*asked) if reply and reply[0]]
        return [(task_id, digest) for task_id, _, digest in found]

    async def _count(self, shard: str, principal: str) -> tuple[int, int]:
        key = shard, principal
        if monotonic() >= self._until.get(key, 0.0):
            if len(self._until) > _REMEMBERED:
                self._until.clear()
                self._known.clear()
            self._until[key] = monotonic() + _FRESH
            keys = self._keys[shard]
            answered = await self._ask(shard, [("ZCARD", keys.open(principal)), ("ZCARD", keys.live)])
            if answered is not None:
                self._known[key] = int(answered[0]), int(answered[1])
        return self._known.get(key, (0, 0))

    async def _ask(self, shard: str, commands: list[tuple[str, str]]) -> list[Any] | None:
        """The replies; None where they do not come in time. A shard that was silent just now is not asked."""
        if monotonic() < self._silent_until.get(shard, 0.0):
            return None
        try:
            with store_errors():
                async with asyncio.timeout(_REPLY_TIMEOUT), self._clients[shard].pipeline(transaction=False) as pipe:
                    for command in commands:
                        pipe.execute_command(*command)
                    return list(await pipe.execute())
        except StoreUnavailable:  # a timeout is one, too
            self._silent_until[shard] = monotonic() + _FRESH
            return None
