"""Schedules as Redis knows them: up to when the firings of each have been seen to, and the task of the latest.

A firing and its task are one step of the script that creates tasks. When a schedule fires is in `engine/timing/`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from taskmill.engine.principal import as_task_id
from taskmill.engine.record import Firing
from taskmill.store.connection.client import store_errors
from taskmill.store.formats.keys import Keys
from taskmill.store.formats.queue_names import shared_app
from taskmill.store.scripts import Scripts
from taskmill.store.shards import id_on_shard
from taskmill.store.tasks.pauses import Pausable, Pause

__all__ = ["KnownSchedule", "ScheduleStore", "Seen", "firing_arg", "firing_id", "latest_of", "schedule_name"]


@dataclass(frozen=True, slots=True)
class KnownSchedule:
    """What is kept of a schedule."""

    name: str
    """`<app>/<tool>`; the app is without a stack."""
    seen_ms: int
    """Up to when its firings have been seen to."""
    last_task: str | None
    """The task of its latest firing, None = it has not fired."""
    last_ms: int | None
    """When that was due."""
    schedule: str
    """As `Schedule.as_json` has it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a worker needs to know before it makes tasks of firings."""

    now_ms: int
    """The store's clock."""
    schedules: Mapping[str, KnownSchedule]
    paused: frozenset[str]
    """`Pause.field` of what is paused."""

    def is_paused(self, app: str, tool: str, queue: str) -> bool:
        """Whether a tool, or its queue, is paused; `queue`: the author's name."""
        app = shared_app(app)
        return not self.paused.isdisjoint(
            {Pause(Pausable.TOOL, app, tool).field, Pause(Pausable.QUEUE, app, queue).field}
        )


class ScheduleStore:
    """The schedules on one Redis."""

    def __init__(self, redis: Redis, scripts: Scripts, keys: Keys) -> None:
        self._redis = redis
        self._scripts = scripts
        self._keys = keys

    async def begin(self, name: str, schedule: str) -> str:
        """Note a schedule: `new`, `changed` or `ahead`, so that its firings begin now, or `known`.

        `ahead`: its latest firing lies in the future, because Redis's clock was ahead.
        """
        with store_errors():
            reply = await self._scripts.run(self._redis, "set_schedule", [self._keys.schedules], [name, schedule])
        return str(reply.decode())

    async def read(self) -> list[KnownSchedule]:
        """All of them, sorted by name."""
        with store_errors():
            stored: Mapping[bytes, bytes] = await self._redis.hgetall(self._keys.schedules)  # type: ignore[misc]
        known = (_known_of(name.decode("utf-8", "replace"), value) for name, value in stored.items())
        return sorted((one for one in known if one is not None), key=lambda one: one.name)

    async def seen(self, names: Sequence[str]) -> Seen:
        """These schedules, what is paused, and the time; in one round trip."""
        with store_errors():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.time()
                pipe.hmget(self._keys.schedules, list(names))
                pipe.hkeys(self._keys.paused)
                (seconds, micros), values, paused = await pipe.execute()
        known = (_known_of(name, value) for name, value in zip(names, values, strict=True) if value is not None)
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        return Seen(now_ms, {one.name: one for one in known if one}, frozenset(one.decode() for one in paused))


def schedule_name(app: str, tool: str) -> str:
    """The name of a tool's schedule, the same for all stacks of an app."""
    return f"{shared_app(app)}/{tool}"


def firing_id(name: str, at_ms: int, shard: str) -> str:
    """The id of the task of a firing, the same on every worker. No caller may see it, so it need not be a secret."""
    return id_on_shard(as_task_id(hashlib.sha256(f"schedule\0{name}\0{at_ms}".encode()).digest()), shard)


def firing_arg(firing: Firing | None) -> str:
    """The firing as the script `create` takes it."""
    return "" if firing is None else f"{firing.at_ms}\n{firing.name}\n{firing.schedule}"


def latest_of(found: Sequence[KnownSchedule]) -> list[KnownSchedule]:
    """Of each schedule what the shard knows that saw it last: its queue may have moved."""
    latest: dict[str, KnownSchedule] = {}
    for one in sorted(found, key=lambda one: one.seen_ms):
        latest[one.name] = one
    return sorted(latest.values(), key=lambda one: one.name)


def _known_of(name: str, value: bytes) -> KnownSchedule | None:
    """None: another program wrote it."""
    try:
        seen, latest, schedule = value.decode().split(" ", 2)
        task, _, at = latest.partition("@")
        return KnownSchedule(name, int(seen), None if latest == "-" else task, int(at) if at else None, schedule)
    except ValueError:
        return None
