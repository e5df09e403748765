"""Adds what a process has counted to the figures in Redis: at most every two seconds, and when it stops.

What a killed process had not added yet is lost, as what a scraper had not read yet would be.
"""

import asyncio
import secrets
from collections import defaultdict, deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from redis.asyncio import Redis

from taskmill.engine.errors import TaskmillError
from taskmill.store.connection.client import store_errors
from taskmill.store.formats.queue_names import app_of, author_queue, qualified_queue, shared_app
from taskmill.store.metrics.counts import TaskCounts
from taskmill.store.metrics.figures import field_of
from taskmill.store.scripts import Scripts
from taskmill.store.settings import StoreSettings

__all__ = ["CountWriter"]

_EVERY = 2.0
"""Seconds."""
_ROWS = 200
"""Rows of one script call: Redis serves others in between."""


@dataclass(frozen=True, slots=True)
class _CountBatch:
    """Counts that are sent until Redis has confirmed them; the number tells it which it has added already."""

    app: str
    number: int
    args: list[Any]


class CountWriter:
    """Of one process and one Redis. A service: start, stop; or a context."""

    def __init__(self, counts: TaskCounts, redis: Redis, settings: StoreSettings, scripts: Scripts) -> None:
        self._counts = counts
        self._redis = redis
        self._scripts = scripts
        self._keys = settings.keys()
        self._tools = settings.metrics_tools
        self._timeout = settings.command_timeout
        self._process = secrets.token_hex(8)
        self._number = 0
        self._unsent: deque[_CountBatch] = deque()
        self._lock = asyncio.Lock()
        self._writing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._writing = asyncio.create_task(self._write_on())

    async def stop(self) -> None:
        """Write what is left, if Redis answers in time."""
        if self._writing is not None:
            self._writing.cancel()
            with suppress(asyncio.CancelledError):
                await self._writing
        with suppress(TaskmillError, TimeoutError):
            async with asyncio.timeout(self._timeout):
                await self.write()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def write(self) -> None:
        """Add all that was counted so far.

        Raises:
            StoreUnavailable, StoreFull, RedisUnfit: what is left is written later.
        """
        async with self._lock:
            self._batch()
            while self._unsent:
                batch = self._unsent[0]
                keys = [self._keys.figures(batch.app), self._keys.counted(f"{self._process}:{batch.app}")]
                with store_errors():
                    await self._scripts.run(self._redis, "count", keys, [batch.number, self._tools, *batch.args])
                self._unsent.popleft()

    async def _write_on(self) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            # Its user may not run the script, or Redis is full or away: figures are no reason to stop.
            with suppress(TaskmillError):
                await self.write()

    def _batch(self) -> None:
        """Pack what was counted since, without the stack of a `taskmill run`: each has one of its own."""
        apps: dict[str, list[Any]] = defaultdict(list)
        for (what, queue, label, tool), times in self._counts.take().items():
            app = shared_app(app_of(queue))
            field = field_of((what, qualified_queue(app, author_queue(queue)), label, tool))
            # A name with half a surrogate pair can be in a call, and not in Redis.
            apps[app] += [field.encode("utf-8", "replace"), times]
        for app, args in apps.items():
            for start in range(0, len(args), 2 * _ROWS):
                self._number += 1
                self._unsent.append(_CountBatch(app, self._number, args[start : start + 2 * _ROWS]))
