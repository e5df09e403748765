"""The audit trail in Redis: a stream of bounded length and age, written by all processes and read page by page."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import time
from typing import Any

from redis.asyncio import Redis

from taskmill.engine.errors import BadArguments, BadCursor
from taskmill.store.connection.client import store_errors
from taskmill.store.formats.keys import Keys
from taskmill.store.settings import StoreSettings

__all__ = ["LONGEST_AUDIT_PAGE", "AuditFilter", "AuditPage", "AuditStream", "since_of"]

LONGEST_AUDIT_PAGE = 500
_CHUNK = 500
_LOOKED_AT = 20_000
"""Records that are read for one page at most, to find those that are wanted."""
_FIELD = b"r"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which records are wanted; None = any."""

    who: str | None = None
    """The beginning of a user's digest, or an operator's name; or a kind of actor: user, operator, anonymous..."""
    action: str | None = None
    """An action, or its beginning up to a dot: `task.` for all about tasks."""
    outcome: str | None = None
    task: str | None = None
    """The beginning of an id."""
    since_ms: int | None = None

    def admits(self, entry: Mapping[str, Any]) -> bool:
        """Whether a record is wanted. The time is for the reader of the stream."""
        action = entry["action"]
        return (
            (self.who is None or self.who in (entry["actor"], entry["subject"]) or _begins(entry["who"], self.who))
            and (
                self.action is None
                or action == self.action
                or (self.action.endswith(".") and action.startswith(self.action))
            )
            and (self.outcome is None or entry["outcome"] == self.outcome)
            and (self.task is None or _begins(entry["task"], self.task))
        )


@dataclass(frozen=True, slots=True)
class AuditPage:
    """A part of the trail."""

    records: tuple[Json, ...]
    """Each with `position`, its place in the stream."""
    next: str | None
    """Where to go on; None at the end. A page may be short, or empty, and still not be the last."""


class AuditStream:
    """The stream of one deployment; on several shards, the default one has it."""

    def __init__(self, redis: Redis, settings: StoreSettings, keys: Keys) -> None:
        self._redis = redis
        self._settings = settings
        self._key = keys.audit

    async def append(self, lines: Sequence[bytes]) -> None:
        """Add records, and drop those beyond the length and the age that the settings allow.

        Raises:
            StoreUnavailable: Redis did not confirm it; some may be there.
        """
        retention_ms = int(self._settings.audit_retention * 1000)
        with store_errors():
            async with self._redis.pipeline(transaction=False) as batch:
                for line in lines:
                    batch.xadd(self._key, {_FIELD: line}, maxlen=self._settings.audit_entries, approximate=True)
                batch.xtrim(self._key, minid=str(int(time() * 1000) - retention_ms), approximate=True)
                batch.pexpire(self._key, retention_ms)
                await batch.execute()

    async def exists(self) -> bool:
        """Whether anything was ever recorded here, in the time that is kept.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        with store_errors():
            return bool(await self._redis.exists(self._key))

    async def page(
        self, wanted: AuditFilter, *, limit: int, before: str | None = None, after: str | None = None
    ) -> AuditPage:
        """Records that are wanted: the newest first, from `before` on backwards; or the oldest first, from `after` on.

        Raises:
            BadCursor: `before` or `after` is no position.
            StoreUnavailable: Redis does not answer.
        """
        oldest = "-" if wanted.since_ms is None else str(wanted.since_ms)
        found: list[Json] = []
        position = _position(before if after is None else after)
        most, looked_at = max(1, min(limit, LONGEST_AUDIT_PAGE)), 0
        while looked_at < _LOOKED_AT:
            with store_errors():
                if after is None:
                    newest = "+" if position is None else f"({position}"
                    rows = await self._redis.xrevrange(self._key, max=newest, min=oldest, count=_CHUNK)
                else:
                    rows = await self._redis.xrange(self._key, min=f"({position}", max="+", count=_CHUNK)
            for at, fields in rows:
                position = at.decode()
                entry = json.loads(fields[_FIELD])
                if wanted.admits(entry):
                    found.append({**entry, "position": position})
                    if len(found) == most:
                        return AuditPage(tuple(found), position)
            if len(rows) < _CHUNK:
                return AuditPage(tuple(found), None if after is None else position)
            looked_at += len(rows)
        return AuditPage(tuple(found), position)


def since_of(text: str) -> int:
    """A time (`2026-11-30T08:00:00Z`), or how long ago (`90s`, `15m`, `2h`, `7d`), as milliseconds of the clock.

    Raises:
        BadArguments: it is neither.
    """
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    if text[:-1].isdecimal() and text[-1:] in units and len(text) < 12:
        return max(0, int((time() - int(text[:-1]) * units[text[-1]]) * 1000))
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise BadArguments(
            "since must be a time, such as 2026-11-30T08:00:00Z, or how long ago: 90s, 15m, 2h, 7d."
        ) from None
    return max(0, int(when.timestamp() * 1000))


def _position(text: str | None) -> str | None:
    if text is None:
        return None
    first, dash, second = text.partition("-")
    if not (text.isascii() and first.isdecimal() and len(text) < 40 and (not dash or second.isdecimal())):
        raise BadCursor
    return text


def _begins(value: str | None, beginning: str) -> bool:
    return value is not None and value.startswith(beginning)
