"""Webhooks that are not delivered yet: taken by workers, listed and retried by operators.

The move that ends a task writes them (`lua/prelude.lua: add_delivery`); what is sent is in `workers/webhooks/`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from redis.asyncio import Redis

from taskmill.engine.errors import DecryptionFailed, SealKeyAwaited
from taskmill.engine.record import TaskView
from taskmill.store.connection.client import store_errors
from taskmill.store.formats.keys import Keys
from taskmill.store.formats.queue_names import app_of, shared_app
from taskmill.store.formats.records import dict_of, format_errors, parse_count
from taskmill.store.formats.sealing import refusals
from taskmill.store.formats.views import view_of
from taskmill.store.scripts import Scripts
from taskmill.store.seal_keys import sealer_of
from taskmill.store.settings import StoreSettings

__all__ = ["MOST_LISTED", "Delivery", "DeliveryStore"]

MOST_LISTED = 1000
"""Webhooks that one list has."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """An ended task that is to be sent to its webhook."""

    view: TaskView
    """The task as it ended; with its outcome where that was asked for and is still kept."""
    taken: int = 0
    """Number of the latest taking: who has an earlier one can change nothing."""
    tries: int = 0
    """How often a try has failed."""
    since_ms: int = 0
    """From when on the time is counted after which it is given up."""
    is_given_up: bool = False
    error: str | None = None
    """Why the last try failed."""
    tried_ms: int | None = None
    next_ms: int | None = None

    @property
    def task_id(self) -> str:
        """The task that has ended."""
        return self.view.record.id

    @property
    def app(self) -> str:
        """Whose task it is, without a stack."""
        return shared_app(app_of(self.view.record.queue))


class DeliveryStore:
    """The webhooks on one Redis."""

    def __init__(self, redis: Redis, settings: StoreSettings, scripts: Scripts, keys: Keys) -> None:
        self._redis = redis
        self._with_result = settings.webhook_result
        self._sealer = sealer_of(settings)
        self._scripts = scripts
        self._keys = keys

    async def take(self, app: str, most: int, lease: timedelta) -> tuple[int, list[Delivery]]:
        """Redis's time in ms, and up to `most` webhooks of an app that are due, for this worker until the lease ends.

        Raises:
            StoreUnavailable: the store did not answer.
        """
        args = [most, int(lease / timedelta(milliseconds=1))]
        with store_errors():
            now, *rows = await self._scripts.run(self._redis, "take_webhooks", [self._due(app)], args)
            results = await self._results([row[0].decode() for row in rows])
        return now, self._deliveries([(row[0], row[1]) for row in rows], results, can_wait=True)

    async def delivered(self, delivery: Delivery) -> bool:
        """It is done; False if another worker has taken it meanwhile."""
        return await self._settle(delivery, "delivered", delivery.tries, "")

    async def try_later(self, delivery: Delivery, wait: timedelta, *, tries: int, why: str) -> bool:
        """Try again after `wait`; False if another worker has taken it meanwhile."""
        return await self._settle(delivery, int(wait / timedelta(milliseconds=1)), tries, why)

    async def give_up(self, delivery: Delivery, why: str) -> bool:
        """Try no more, unless an operator wants it; False if another worker has taken it meanwhile."""
        return await self._settle(delivery, "", delivery.tries + 1, why)

    async def _settle(self, delivery: Delivery, what: str | int, tries: int, why: str) -> bool:
        args = [delivery.task_id, delivery.taken, what, tries, why]
        with store_errors():
            reply = await self._scripts.run(self._redis, "settle_webhook", [self._due(delivery.app)], args)
        return bool(reply == b"settled")

    async def undelivered(self, app: str | None, *, limit: int, given_up: bool | None = None) -> list[Delivery]:
        """Webhooks that are not delivered, the latest end first; `app`: None = of all, `given_up`: None = all."""
        found: list[Delivery] = []
        first = 0
        while len(found) < limit:
            with store_errors():
                ids: list[bytes] = await self._redis.zrevrange(self._keys.webhooks, first, first + MOST_LISTED - 1)
                async with self._redis.pipeline(transaction=False) as pipe:
                    for task_id in ids:
                        pipe.hgetall(self._keys.webhook(task_id.decode()))
                    stored: list[dict[bytes, bytes]] = await pipe.execute() if ids else []
            flat = [[word for pair in fields.items() for word in pair] for fields in stored]
            rows = [(task_id, fields) for task_id, fields in zip(ids, flat, strict=True) if fields]
            found += [
                one
                for one in self._deliveries(rows, {})
                if app in (None, one.app) and given_up in (None, one.is_given_up)
            ]
            first += MOST_LISTED
            if len(ids) < MOST_LISTED:
                break
        return found[:limit]

    async def find(self, task_id: str) -> Delivery | None:
        """The webhook of a task, None = there is none that is not delivered."""
        with store_errors():
            fields: dict[bytes, bytes] = await self._redis.hgetall(self._keys.webhook(task_id))  # type: ignore[misc]
        flat = [word for pair in fields.items() for word in pair]
        return self._delivery(task_id, flat, {}) if flat else None

    async def retry(self, task_id: str) -> bool:
        """Try it again now, as if its task had just ended; False if there is none of this task."""
        with store_errors():
            return bool(await self._scripts.run(self._redis, "retry_webhook", [self._keys.webhook(task_id)], [task_id]))

    def _due(self, app: str) -> str:
        return self._keys.deliveries(shared_app(app))

    async def _results(self, ids: Sequence[str]) -> Mapping[str, bytes | None]:
        """The stored results, where the settings want them sent."""
        if not self._with_result or not ids:
            return {}
        stored: list[bytes | None] = await self._redis.mget([self._keys.result(task_id) for task_id in ids])
        return dict(zip(ids, stored, strict=True))

    def _deliveries(
        self,
        rows: Sequence[tuple[bytes, Sequence[bytes]]],
        results: Mapping[str, bytes | None],
        *,
        can_wait: bool = False,
    ) -> list[Delivery]:
        """Those that can be read. One that cannot, perhaps with these keys only, is taken again when its lease ends.

        `can_wait`: also one whose key may still come; else that is an error, because the list would be false.
        """
        read = []
        for task_id, fields in rows:
            try:
                read.append(self._delivery(task_id.decode(), fields, results))
            except SealKeyAwaited:
                if not can_wait:
                    raise
            except DecryptionFailed as exc:
                refusals.note(task_id.decode(), "webhook", str(exc))
        return read

    def _delivery(self, task_id: str, flat: Sequence[bytes], results: Mapping[str, bytes | None]) -> Delivery:
        outcome = results.get(task_id)
        read: dict[str, Any] = {"record": flat, "outcome": outcome, "questions": (), "ahead": -1}
        view = view_of(task_id, self._sealer, **read, in_list=outcome is None)
        field = dict_of(flat)
        with format_errors(task_id):
            count = {name: parse_count(field.get(f"d_{name}") or "0") for name in _COUNTS}
        return Delivery(
            view,
            taken=count["taken"],
            tries=count["tries"],
            since_ms=count["from_ms"] or view.record.ended_ms or 0,
            is_given_up="d_given_up" in field,
            error=field.get("d_error") or None,
            tried_ms=count["tried_ms"] or None,
            next_ms=count["next_ms"] or None,
        )


_COUNTS = ("taken", "tries", "from_ms", "tried_ms", "next_ms")
