"""The store as servers and operators use it: create, look, answer, cancel, history.

What workers do (claim, renew, finish...) is in `claims.py`.
"""

import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from windlass.engine.errors import BadArguments, PayloadTooLarge, QuotaExceeded, SealBroken, TaskNotFound
from windlass.engine.events import Event
from windlass.engine.outcome import Broke, Fault, Outcome, outcome_from_json
from windlass.engine.record import NewTask, TaskRecord, TaskView
from windlass.engine.status import Status
from windlass.store.connection import open_redis, store_errors
from windlass.store.feed import Feed
from windlass.store.keys import Keys
from windlass.store.queue import arq_job
from windlass.store.records import event_of, pairs, record_of
from windlass.store.scripts import Scripts
from windlass.store.sealing import Sealer
from windlass.store.settings import StoreSettings
from windlass.store.switchboard import Switchboard
from windlass.store.tail import Tails

__all__ = ["OPERATOR", "TaskStore", "open_store"]

OPERATOR = ""
"""Principal of somebody who may see and cancel every task; never taken from a request."""
_CHUNK = 500
"""Events that are read at a time for those who follow a task."""


class TaskStore:
    """The tasks of one deployment, from the outside."""

    def __init__(self, redis: Redis, settings: StoreSettings) -> None:
        self._redis = redis
        self._settings = settings
        self.keys = Keys(settings.prefix)
        self._scripts = Scripts(self.keys)
        self._sealer = Sealer(settings.seal_keys)
        self.switchboard = Switchboard(settings, self.keys.record(""))
        self.feed = Feed(settings, self.keys, self.switchboard)
        self.tails = Tails(self.feed, lambda task_id, after: self.history(task_id, after=after, limit=_CHUNK))

    def pack(self, task_id: str, payload: Mapping[str, Any]) -> bytes:
        """Arguments and call context as they will be stored.

        Raises:
            PayloadTooLarge: over the limit of the settings.
            BadArguments: they hold something that is not JSON, such as half a surrogate pair.
        """
        try:
            packed = self._sealer.seal(payload, task_id=task_id, field="args")
        except (TypeError, ValueError) as exc:
            raise BadArguments("The arguments hold a value or text that cannot be written as JSON.") from exc
        limit = self._settings.max_arguments
        if len(packed) > limit:
            raise PayloadTooLarge(
                f"The arguments are {len(packed):,} bytes; this server accepts {limit:,}. Send a reference instead.",
                limit=limit,
            )
        return packed

    async def create(self, task: NewTask) -> TaskView:
        """Store a task for good and queue it; any replica can read it from now on.

        The view is of `task`, or of an earlier one when its idempotency key was used before. Calling it twice with
        the same task creates one.

        Raises:
            QuotaExceeded: the principal, or everybody, has too many open tasks.
            StoreUnavailable: Redis did not confirm it.
        """
        retention = max(1, int(self._settings.kept_for(task.retention).total_seconds() * 1000))
        poll = max(1, int(task.poll_interval.total_seconds() * 1000))
        quotas = (self._settings.open_limit, self._settings.open_limit_total)
        args = [task.id, task.payload, arq_job(task.id), task.tool, task.queue, task.principal, retention, poll]
        reply = await self._run("create", [self.keys.record(task.id)], [*args, task.idempotency or "", *quotas])
        if reply[0] == b"quota":
            whose = "You have" if reply[1] == b"principal" else "This server has"
            raise QuotaExceeded(f"{whose} {reply[2]:,} open tasks, the limit. Wait for one to end, or cancel one.")
        if reply[0] == b"exists":
            return await self.look(reply[1].decode(), task.principal)
        return TaskView(_new_record(task, reply[3], retention, poll), ahead=reply[2])

    async def look(self, task_id: str, principal: str) -> TaskView:
        """One consistent reading, in one round trip.

        Raises:
            TaskNotFound: unknown, expired, or somebody else's: one answer for all three.
        """
        keys = [self.keys.record(task_id), self.keys.result(task_id), self.keys.inputs(task_id)]
        reply = await self._run("look", keys, [task_id, principal])
        if reply is None:
            raise TaskNotFound(task_id=task_id)
        record = record_of(task_id, pairs(reply[0]))
        questions = {
            reply[2][i].decode(): self._sealer.open(reply[2][i + 1], task_id=task_id, field="inputs")
            for i in range(0, len(reply[2]), 2)
        }
        ahead = reply[3] if reply[3] >= 0 else None
        return TaskView(record, self._outcome(record, reply[1]), dict(sorted(questions.items(), key=_asked)), ahead)

    async def answer(self, task_id: str, principal: str, answers: Mapping[str, Any]) -> int:
        """Give answers to open questions by key; how many were taken. Unknown and answered keys are passed over.

        Raises:
            TaskNotFound: unknown, expired, or somebody else's.
            BadArguments: an answer is not JSON.
        """
        flat: list[Any] = []
        try:
            for key, value in answers.items():
                flat += [key, self._sealer.seal(value, task_id=task_id, field="inputs")]
        except (TypeError, ValueError) as exc:
            raise BadArguments("The answers hold a value or text that cannot be written as JSON.") from exc
        reply = await self._run("answer", [self.keys.inputs(task_id)], [task_id, principal, *flat])
        if reply == b"missing":
            raise TaskNotFound(task_id=task_id)
        return 0 if reply == b"ended" else int(reply)

    async def cancel(self, task_id: str, principal: str, *, reason: str = "cancelled") -> bool:
        """Cancel a task at once; False when it had already ended.

        Raises:
            TaskNotFound: unknown, expired, or somebody else's.
        """
        reply = await self._run("cancel", [self.keys.record(task_id)], [task_id, principal, reason])
        if reply == b"missing":
            raise TaskNotFound(task_id=task_id)
        return bool(reply == b"cancelled")

    async def history(self, task_id: str, *, after: int = 0, limit: int | None = None) -> list[Event]:
        """The events of a task with numbers above `after`, at most `limit`; empty when there are none."""
        with store_errors():
            entries = await self._redis.xrange(self.keys.events(task_id), min=f"({after}-0", count=limit)
        return [event_of(entry_id, field) for entry_id, field in entries]

    async def workers(self) -> list[dict[str, Any]]:
        """What each live worker says of itself: name, queue, concurrency, running, tools; sorted by name."""
        with store_errors():
            names = [name async for name in self._redis.scan_iter(match=self.keys.worker("*"), count=1000)]
            said = await self._redis.mget(names) if names else []
        return sorted((json.loads(one) for one in said if one), key=lambda one: str(one["worker"]))

    async def shared_secret(self) -> bytes:
        """A secret that every replica of this deployment knows: the first seal key, else 32 bytes kept in Redis."""
        if self._settings.seal_keys:
            return self._settings.seal_keys[0]
        with store_errors():
            await self._redis.set(self.keys.secret, secrets.token_bytes(32), nx=True)
            kept = await self._redis.get(self.keys.secret)
        return bytes(kept)

    async def ping(self) -> None:
        """Return when Redis answers.

        Raises:
            StoreUnavailable: it does not.
        """
        with store_errors():
            await self._redis.ping()

    def _outcome(self, record: TaskRecord, stored: bytes | None) -> Outcome | None:
        if record.reason == "poisoned":
            return Broke(Fault.POISONED, f"Every worker that ran this task died ({record.crashes} times).")
        if stored is None:
            return None
        try:
            return outcome_from_json(self._sealer.open(stored, task_id=record.id, field="result"))
        except (SealBroken, ValueError):
            return Broke(Fault.UNREADABLE, "The stored result cannot be opened with this server's keys.")

    async def _run(self, name: str, keys: list[str], args: list[Any]) -> Any:
        with store_errors():
            return await self._scripts.run(self._redis, name, keys, args)


def _new_record(task: NewTask, now: int, retention_ms: int, poll_ms: int) -> TaskRecord:
    return TaskRecord(
        id=task.id,
        tool=task.tool,
        queue=task.queue,
        principal=task.principal,
        status=Status.PENDING,
        created_ms=now,
        updated_ms=now,
        seq=1,
        retention_ms=retention_ms,
        poll_ms=poll_ms,
    )


def _asked(item: tuple[str, Any]) -> tuple[int, str]:
    number = item[0].rpartition("-")[2]
    return (int(number) if number.isdigit() else 0, item[0])


@asynccontextmanager
async def open_store(settings: StoreSettings) -> AsyncIterator[TaskStore]:
    """A store on a Redis that answered and is fit.

    Raises:
        StoreUnavailable, RedisUnfit, SettingsError: see `open_redis`.
    """
    async with open_redis(settings) as redis:
        store = TaskStore(redis, settings)
        async with store.feed:
            yield store
