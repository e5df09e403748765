"""What tools emit while they run: written by the worker that has the fence, read by all who may see the task.

A capped stream in Redis, its chunks sealed like every payload.
"""

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from redis.asyncio import Redis

from taskmill.engine.artifact import Chunk
from taskmill.engine.errors import ChunkRefused, FenceLost
from taskmill.store.connection.client import store_errors
from taskmill.store.formats.keys import Keys
from taskmill.store.formats.log_messages import is_log
from taskmill.store.formats.records import format_errors
from taskmill.store.formats.sealing import Sealer
from taskmill.store.pubsub.hub import ChannelHub
from taskmill.store.pubsub.task_feed import Subscription
from taskmill.store.scripts import Scripts
from taskmill.store.seal_keys import sealer_of
from taskmill.store.settings import StoreSettings

__all__ = ["OutputReader", "OutputStore", "chunk_of"]

_MOST_CHUNKS = 10_000


class OutputStore:
    """The chunks of every task on one Redis."""

    def __init__(self, redis: Redis, settings: StoreSettings, scripts: Scripts) -> None:
        self._redis = redis
        self._settings = settings
        self._scripts = scripts
        self._keys = settings.keys()
        self._sealer = sealer_of(settings)

    def pack(self, task_id: str, chunk: Any) -> bytes:
        """A chunk as it will be stored.

        Raises:
            ChunkRefused: too large, or not JSON.
        """
        try:
            packed = self._sealer.seal(chunk, task_id=task_id, field="output")
        except (TypeError, ValueError) as exc:
            raise ChunkRefused(f"A chunk must be text or JSON, not {type(chunk).__name__}.", task_id=task_id) from exc
        limit = min(self._settings.max_chunk, self._settings.max_output)
        if len(packed) > limit:
            raise ChunkRefused(
                f"A chunk of {len(packed):,} bytes is over the limit, {limit:,}: emit less, or attach a file.",
                task_id=task_id,
                limit=limit,
            )
        return packed

    async def add(self, task_id: str, fence: int, packed: Sequence[bytes], *, batch_id: str = "") -> int:
        """Add packed chunks in this order; the number of the last. A second call with the same `batch_id` adds nothing.

        Raises:
            FenceLost: the task is another worker's now, or has ended.
        """
        limits = (_MOST_CHUNKS, self._settings.max_output)
        args = [task_id, fence, *limits, batch_id or secrets.token_hex(8), *packed]
        with store_errors():
            reply = await self._scripts.run(self._redis, "append_output", [self._keys.output(task_id)], args)
        if reply == b"lost":
            raise FenceLost(task_id=task_id)
        return int(reply)

    async def read(self, task_id: str, *, after: int = 0, count: int = 1000) -> list[Chunk]:
        """See `OutputReader.read`."""
        with store_errors():
            entries = await self._redis.xrange(self._keys.output(task_id), min=f"({after}-0", count=count)
        return [chunk_of(task_id, entry_id, field, self._sealer) for entry_id, field in entries]


class _Read(Protocol):
    async def __call__(self, task_id: str, *, after: int = 0, count: int = 1000) -> list[Chunk]: ...


class OutputReader:
    """The chunks of every task, for readers. Whether a reader may see the task is the caller's to check."""

    def __init__(self, read: _Read, keys: Keys, hub: ChannelHub) -> None:
        """`read`: where the chunks are; `hub`: where a new one is announced."""
        self._read = read
        self._keys = keys
        self._hub = hub

    async def read(self, task_id: str, *, after: int = 0, count: int = 1000) -> list[Chunk]:
        """The next chunks of a task after a number.

        Raises:
            SealBroken: sealed with a key that is not in the ring.
        """
        return await self._read(task_id, after=after, count=count)

    @asynccontextmanager
    async def follow(self, task_id: str) -> AsyncIterator[Subscription]:
        """Updates whenever the task emits or changes; it counts as updated once at the beginning."""
        subscription = Subscription()
        channels = [self._keys.output(task_id), self._keys.record(task_id)]

        def on_message(_channel: str, message: bytes | None) -> None:
            if not is_log(message):
                subscription.notify(task_id)

        async with self._hub.subscribe(channels, on_message):
            yield subscription


def chunk_of(task_id: str, entry_id: bytes, field: Mapping[bytes, bytes], sealer: Sealer) -> Chunk:
    """One stream entry.

    Raises:
        SealBroken: it cannot be read.
    """
    with format_errors(task_id):
        return Chunk(
            number=int(entry_id.split(b"-")[0]),
            attempt=int(field[b"attempt"]),
            at_ms=int(field[b"at"]),
            content=sealer.open(field[b"chunk"], task_id=task_id, field="output"),
        )
