"""Values that tools keep for a session or a principal, where every replica and worker reads them.

A session's are fields of its own hash, so they end with it. Who a caller is, is not decided here.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import time
from typing import Any

from redis.asyncio import Redis

from taskmill.engine.context import CallerStatePort, StateScope
from taskmill.engine.errors import NotSerializable, StateUnavailable, TooLargeToStore
from taskmill.engine.principal import ANONYMOUS
from taskmill.store.connection.client import connect, store_errors
from taskmill.store.formats.queue_names import shared_app
from taskmill.store.scripts import Scripts
from taskmill.store.seal_keys import sealer_of
from taskmill.store.settings import StoreSettings

__all__ = ["CallerState", "CallerStateStore", "check_name", "open_caller_states", "resolved_scope"]

_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the values of one owner are."""

    key: str
    """A hash."""
    owner: str
    """Bound to what is sealed."""
    session_of: str
    """Principal of the session; empty = they are the principal's."""


class CallerStateStore:
    """The values of every caller of one deployment."""

    def __init__(self, redis: Redis, settings: StoreSettings, scripts: Scripts) -> None:
        self.redis = redis
        self.settings = settings
        self.scripts = scripts
        self.keys = settings.keys()
        self.sealer = sealer_of(settings)

    def of(self, principal: str, session: str | None) -> "CallerState":
        """The values of one caller. `session`: the id of its session, None = it has none."""
        return CallerState(self, principal, session)


class CallerState(CallerStatePort):
    """The values of one caller."""

    def __init__(self, store: CallerStateStore, principal: str, session: str | None) -> None:
        self._store = store
        self._principal = principal
        self._session = session

    async def read(self, name: str, scope: StateScope | None) -> list[Any]:
        """See `CallerStatePort`."""
        place, field = self._place(scope), _field(name)
        with store_errors():
            principal, stored = await self._store.redis.hmget(place.key, ["principal", field])  # type: ignore[misc]  # both clients' type
        if stored is None or (principal or b"").decode() != place.session_of:
            return []
        expiry, _, sealed = stored.partition(b" ")
        if int(expiry) <= _now_ms():
            return []
        return [self._store.sealer.open(sealed, task_id=place.owner, field=f"{field} {int(expiry)}")]

    async def write(self, name: str, value: Any, scope: StateScope | None) -> None:
        """See `CallerStatePort`."""
        store, settings = self._store, self._store.settings
        place, field = self._place(scope), _field(name)
        now, ttl = _now_ms(), int(settings.state_ttl * 1000)
        stored = b"%d %b" % (now + ttl, self._sealed(name, value, place, now + ttl))
        args = [field, stored, settings.state_limit, place.session_of, ttl, now]
        with store_errors():
            reply = await store.scripts.run(store.redis, "set_state", [place.key], args)
        if reply == b"gone":
            raise StateUnavailable(
                "The session of this call has ended, and what was kept for it is gone. Keep what outlives a session "
                'with scope="principal".'
            )
        if reply == b"full":
            raise TooLargeToStore(
                f"There are {settings.state_limit} values for this {'session' if place.session_of else 'principal'}, "
                f"the limit (TASKMILL_STATE_LIMIT), so {name!r} cannot be added: delete some, or keep several in one."
            )

    async def delete(self, name: str, scope: StateScope | None) -> None:
        """See `CallerStatePort`."""
        place, field = self._place(scope), _field(name)
        with store_errors():
            await self._store.redis.hdel(place.key, field)  # type: ignore[misc]  # both clients' type

    def _place(self, scope: StateScope | None) -> _Place:
        keys = self._store.keys
        if resolved_scope(scope, principal=self._principal, session=self._session) == "session":
            assert self._session is not None, "as resolved_scope says"
            return _Place(keys.session(self._session), f"session:{self._session}", self._principal)
        # Two servers under one prefix do not read each other's values.
        owner = f"{shared_app(self._store.settings.app or '')}:{self._principal}"
        return _Place(keys.state(owner), f"principal:{owner}", "")

    def _sealed(self, name: str, value: Any, place: _Place, expiry: int) -> bytes:
        limit = self._store.settings.max_state_value
        try:
            sealed = self._store.sealer.seal(value, task_id=place.owner, field=f"{_field(name)} {expiry}")
        except (TypeError, ValueError) as exc:
            raise NotSerializable(f"The value of {name!r} holds text that cannot be written as JSON.") from exc
        if len(sealed) > limit:
            raise TooLargeToStore(
                f"The value of {name!r} is {len(sealed):,} bytes; {limit:,} can be kept (TASKMILL_MAX_STATE_VALUE). "
                "Keep less, or a reference to it."
            )
        return sealed


@asynccontextmanager
async def open_caller_states(settings: StoreSettings, redis: Redis) -> AsyncIterator[CallerStateStore]:
    """The values of callers, for a process that has a client to the Redis of `settings`.

    They are on the default shard, as sessions are; a client to another Redis connects when it is used.
    """
    elsewhere = settings.at_default_shard()
    client, there = (redis, settings) if elsewhere is None else (connect(elsewhere), elsewhere)
    try:
        yield CallerStateStore(client, there, Scripts(there.keys()))
    finally:
        if client is not redis:
            await client.aclose()


def check_name(name: str) -> str:
    """The name of a value, if it can be one.

    Raises:
        TypeError, ValueError: it cannot.
    """
    if not isinstance(name, str):
        raise TypeError(f"The name of a value is text, not {type(name).__name__}.")
    if not 1 <= len(name) <= _LONGEST_NAME or any("\ud800" <= letter <= "\udfff" for letter in name):
        raise ValueError(f"The name of a value is text of 1 to {_LONGEST_NAME} characters.")
    return name


def resolved_scope(scope: StateScope | None, *, principal: str, session: str | None) -> StateScope:
    """The scope that a call means.

    Raises:
        StateUnavailable: the caller has none such.
        ValueError: there is no such scope.
    """
    if scope not in (None, "session", "principal"):
        raise ValueError(f'scope is "session" or "principal", not {scope!r}.')
    if session is not None and scope != "principal":
        return "session"
    if scope == "session":
        raise StateUnavailable(
            "This tool keeps values for a session, and this call is in none: clients of 2026-07-28 and over stdio have "
            'no session. scope="principal" keeps them for the user.'
        )
    if principal == ANONYMOUS:
        raise StateUnavailable(
            "This tool keeps values for each user, and this caller has not signed in: all anonymous callers would "
            "share them. Call with an access token, or from a client that keeps a session."
        )
    return "principal"


def _field(name: str) -> str:
    return f"state:{check_name(name)}"


def _now_ms() -> int:
    return int(time() * 1000)
