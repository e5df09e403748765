"""Pauses of queues and tools: kept in Redis until they are ended, and enforced by the script that claims.

A pause first makes the claims stop, then moves what waits out of the way; its end does the same backwards. Whatever of
the second part is not done, because the process that did it ended, claims and the reconciler do.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from redis.asyncio import Redis

from taskmill.store.connection.client import store_errors
from taskmill.store.formats.keys import Keys
from taskmill.store.formats.queue_names import app_of, author_queue, qualified_queue, shared_app
from taskmill.store.scripts import Scripts
from taskmill.store.tasks.stats import live_workers, queues_of

__all__ = ["Pausable", "Pause", "PauseStore", "shared_queue"]

_CHUNK = 500
"""Tasks that one script call moves: some milliseconds of Redis's time."""
_OPEN_TASKS_READ = 5000


class Pausable(StrEnum):
    """What can be paused."""

    QUEUE = "queue"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class Pause:
    """A queue or a tool of which no task starts."""

    kind: Pausable
    app: str
    """Whose it is, without a stack."""
    name: str
    """Of the tool, or the author's of the queue."""
    by: str = ""
    """Who paused it."""
    at_ms: int = 0
    reason: str = ""

    @property
    def field(self) -> str:
        """Its name in Redis, which the scripts make too."""
        if self.kind is Pausable.TOOL:
            return f"{self.kind} {self.app}/{self.name}"
        return f"{self.kind} {qualified_queue(self.app, self.name)}"


class PauseStore:
    """The pauses on one Redis."""

    def __init__(self, redis: Redis, scripts: Scripts, keys: Keys) -> None:
        self._redis = redis
        self._scripts = scripts
        self._keys = keys

    async def read(self) -> list[Pause]:
        """What is paused now, sorted by kind, app and name."""
        with store_errors():
            stored: Mapping[bytes, bytes] = await self._redis.hgetall(self._keys.paused)  # type: ignore[misc]
        found = (_pause_of(name.decode("utf-8", "replace"), value) for name, value in stored.items())
        return sorted((pause for pause in found if pause is not None), key=lambda pause: pause.field)

    async def pause(self, pause: Pause) -> bool:
        """See `TaskStore.pause`."""
        with store_errors():
            value = json.dumps({"by": pause.by, "at_ms": pause.at_ms, "reason": pause.reason})
            was_paused = await self._run("set_pause", [self._keys.paused], [pause.field, value])
            await self._move("hold", await self._queues_of(pause))
        return not was_paused

    async def resume(self, pause: Pause) -> bool:
        """See `TaskStore.resume`."""
        with store_errors():
            queues = await self._queues_of(pause)
            # What is not held yet would otherwise be before what is.
            await self._move("hold", queues)
            was_paused = await self._run("set_pause", [self._keys.paused], [pause.field, ""])
            await self._move("unhold", queues)
        return bool(was_paused)

    async def known_queues(self) -> set[str]:
        """See `TaskStore.known_queues`."""
        with store_errors():
            workers = await live_workers(self._redis, self._keys)
            open_, _ = await self.queues_of_open_tasks(0, _OPEN_TASKS_READ)
        return {name for worker in workers for name in queues_of(worker)} | open_

    async def queues_of_open_tasks(self, first: int, count: int) -> tuple[set[str], bool]:
        """The queues that have open tasks, whether these wait in the queue, in a lane or for an answer.

        Of so many tasks, the oldest first, from the rank `first` on; and whether there are more.
        """
        with store_errors():
            oldest = await self._redis.zrange(self._keys.live, first, first + count - 1)
            async with self._redis.pipeline(transaction=False) as pipe:
                for task_id in oldest:
                    pipe.hget(self._keys.record(task_id.decode()), "queue")
                queues: list[bytes | None] = await pipe.execute() if oldest else []
        return {queue.decode() for queue in queues if queue is not None}, len(oldest) == count

    async def _queues_of(self, pause: Pause) -> list[str]:
        """The queues that may hold tasks of it."""
        queues = {shared_queue(pause.app, pause.name)} if pause.kind is Pausable.QUEUE else set[str]()
        for queue in await self.known_queues():
            is_of_app = shared_app(app_of(queue)) == pause.app
            if is_of_app and (pause.kind is Pausable.TOOL or author_queue(queue) == pause.name):
                queues.add(queue)
        return sorted(queues)

    async def _move(self, script: str, queues: Iterable[str]) -> None:
        for queue in queues:
            passed, looked_at = 0, _CHUNK
            while looked_at == _CHUNK:
                looked_at, left = await self._run(script, [self._keys.queue(queue)], [passed, _CHUNK])
                passed += left

    async def _run(self, name: str, keys: list[str], args: list[Any]) -> Any:
        return await self._scripts.run(self._redis, name, keys, args)


def shared_queue(app: str, queue: str) -> str:
    """A queue of an app as pauses have it: the same for all its stacks."""
    return qualified_queue(shared_app(app), queue)


def _pause_of(field: str, value: bytes) -> Pause | None:
    """None: another program wrote it, and it pauses nothing."""
    kind, _, name = field.partition(" ")
    if kind not in list(Pausable):
        return None
    app, _, author_name = name.rpartition("/")
    if kind == Pausable.TOOL:
        app, _, author_name = name.partition("/")
    try:
        facts = json.loads(value)
        by, at_ms, reason = str(facts["by"]), int(facts["at_ms"]), str(facts["reason"])
    except (ValueError, LookupError, TypeError):
        by, at_ms, reason = "", 0, ""  # another program wrote it: it is paused all the same
    return Pause(Pausable(kind), app, author_name, by, at_ms, reason)
