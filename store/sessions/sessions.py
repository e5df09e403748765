"""Sessions of the revisions before 2026, kept where every replica reads them: who the client is and what it can do.

What a session's calls have sent is in `open_calls.py`. Nothing here knows the protocol's messages.
"""

import json
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from time import time
from typing import Any

from redis.asyncio import Redis

from taskmill.engine.errors import BadArguments, DecryptionFailed, SealKeyAwaited, TooManySessions
from taskmill.store.connection.client import store_errors
from taskmill.store.connection.memory import MemoryWatch, check_room
from taskmill.store.formats.keys import Keys
from taskmill.store.pubsub.hub import ChannelHub
from taskmill.store.pubsub.subscriber import OnMessage
from taskmill.store.scripts import Scripts
from taskmill.store.seal_keys import sealer_of
from taskmill.store.settings import StoreSettings

__all__ = ["Session", "SessionStore"]

_REPLY_TTL = 60_000
_OWNED_FOR = 7
"""Idle times for which the list of a principal's sessions is kept after the last one was opened."""
_MAKES_ROOM_AFTER = 600_000
"""Milliseconds of idle time after which a session ends if its principal opens one more than the limit."""
_MOST_FOLLOWED = 1000
"""Tasks a session follows at once; beyond that, only the newest."""


@dataclass(frozen=True, slots=True)
class Session:
    """One client's session."""

    id: str
    """Unguessable."""
    principal: str
    """Owner: only its requests may use the session."""
    version: str
    """The protocol revision that was agreed on."""
    client: Mapping[str, Any]
    """Parameters of its `initialize` request: name and capabilities."""


class SessionStore:
    """The sessions of one deployment."""

    def __init__(
        self,
        redis: Redis,
        settings: StoreSettings,
        scripts: Scripts,
        keys: Keys,
        hub: ChannelHub,
        memory: MemoryWatch,
    ) -> None:
        self._redis = redis
        self._memory = memory
        self._full_at = settings.redis_full_at and (settings.redis_full_at + 100) / 2
        self._scripts = scripts
        self._idle_ms = int(settings.session_idle * 1000)
        self._limit = settings.session_limit_total
        self._limits_of = settings.limits_of
        self._keys = keys
        self._hub = hub
        self._sealer = sealer_of(settings)

    async def open(self, session: Session, *, most: int | None = None) -> None:
        """Keep a new session. `most`: open sessions of its principal, 0 = no limit, None = as the settings say.

        At that limit the session of the principal ends that is idle the longest, if it is for ten minutes and has no
        open call: most clients never end theirs. A server may end a session at any time, and the client then opens a
        new one (2025-11-25, Transports, Session Management).

        Raises:
            TooManySessions: a limit is reached.
            StoreUnavailable: Redis did not confirm it.
            StoreFull: Redis keeps the rest of its memory for tasks.
        """
        now = int(time() * 1000)
        check_room(await self._memory.read(), self._full_at)
        owned = self._keys.owned_sessions(session.principal)
        with store_errors():
            most = self._limits_of(session.principal).sessions if most is None else most
            await self._check_limits(session.principal, owned, most, now)
            key = self._keys.session(session.id)
            async with self._redis.pipeline() as pipe:
                facts: dict[str, Any] = {"principal": session.principal, "version": session.version}
                client = self._seal(session.id, _session_field(session.principal, facts["version"]), session.client)
                pipe.hset(key, mapping={**facts, "client": client})
                pipe.zadd(self._keys.sessions, {session.id: now + self._idle_ms})
                pipe.zadd(owned, {session.id: now + self._idle_ms})
                pipe.pexpire(owned, _OWNED_FOR * self._idle_ms)
                self._touch(pipe, session.id)
                await pipe.execute()

    async def _check_limits(self, principal: str, owned: str, most: int, now: int) -> None:
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.zremrangebyscore(self._keys.sessions, 0, now)
            pipe.zcard(self._keys.sessions)
            pipe.zcard(owned)
            _, count, own = await pipe.execute()
        if most and own >= most and len(ends := await self._ends_of(owned)) >= most:
            later = now + self._idle_ms - min(_MAKES_ROOM_AFTER, self._idle_ms)
            idle = [one for one, end in ends.items() if end <= later]
            if not await self._end_one(principal, idle):
                until_idle = [end - later for end in list(ends.values())[len(idle) :]]
                wait = -(-until_idle[0] // 1000) if until_idle else 60
                words = (
                    f"You have {len(ends):,} open sessions, the limit. Close one (DELETE), or wait till one is idle."
                )
                raise TooManySessions(words, limit="sessions", allowed=most, used=len(ends), retry_after=wait)
        if self._limit and count >= self._limit:
            words = f"{count:,} sessions are open, the limit. Try again later."
            raise TooManySessions(words, limit="all_sessions", allowed=self._limit, used=count, retry_after=60)

    async def _ends_of(self, owned: str) -> dict[str, int]:
        """When the open sessions of a principal end if they stay idle, ms, first come first.

        Their own list still has those that ended by being idle: it has them no longer.
        """
        ids = [one.decode() for one in await self._redis.zrange(owned, 0, -1)]
        ends: list[float | None] = await self._redis.zmscore(self._keys.sessions, ids) if ids else []
        if gone := [one for one, end in zip(ids, ends, strict=True) if end is None]:
            await self._redis.zrem(owned, *gone)
        known = [(end, one) for one, end in zip(ids, ends, strict=True) if end is not None]
        return {one: int(end) for end, one in sorted(known)}

    async def _end_one(self, principal: str, idle: list[str]) -> bool:
        """End the first of these sessions of a principal that has no open call; False = all have one."""
        for session_id in idle:
            if not await self._redis.hlen(self._keys.calls(session_id)):  # type: ignore[misc]  # both clients' type
                await self._end(session_id, principal)
                return True
        return False

    async def find(self, session_id: str, principal: str) -> Session | None:
        """The session, whose idle time starts again; None if there is none or it is another principal's."""
        args = [session_id, principal, self._idle_ms, int(time() * 1000) + self._idle_ms]
        with store_errors():
            found = await self._scripts.run(self._redis, "find_session", [self._keys.session(session_id)], args)
        if found is None:
            return None
        version, stored = found[0].decode(), found[1]
        try:
            client = self._sealer.open(stored, task_id=session_id, field=_session_field(principal, version))
        except SealKeyAwaited:
            raise
        except DecryptionFailed:  # it is in the log; the client begins a new session
            return None
        return Session(session_id, principal, version, client)

    async def note_of_client(self, session: Session, name: str, value: Any) -> None:
        """Keep one more fact of the client, beside what it declared at the start."""
        key, field = self._keys.session(session.id), _session_field(session.principal, session.version)
        with store_errors():
            async with self._redis.pipeline() as pipe:
                pipe.hset(key, mapping={"client": self._seal(session.id, field, {**session.client, name: value})})
                pipe.pexpire(key, self._idle_ms)  # also where the session has just ended
                await pipe.execute()

    async def close(self, session: Session) -> None:
        """End a session, and notify the processes that serve streams of it."""
        with store_errors():
            await self._end(session.id, session.principal)

    async def _end(self, session_id: str, principal: str) -> None:
        keys = self._keys
        async with self._redis.pipeline() as pipe:
            pipe.delete(keys.session(session_id), keys.followed(session_id), keys.calls(session_id))
            pipe.zrem(keys.sessions, session_id)
            pipe.zrem(keys.owned_sessions(principal), session_id)
            pipe.publish(keys.session(session_id), json.dumps({"closed": True}))
            pipe.publish(keys.push(session_id), self._seal(session_id, "push", {"closed": True}))
            await pipe.execute()

    async def follow(self, session_id: str, task_id: str, token: str | int | None) -> None:
        """Have the session sent a task's changes from now on, and its progress under `token` if there is one."""
        key, followed = self._keys.followed(session_id), {"follow": task_id, "token": token}
        with store_errors():
            crowded = await self._redis.hlen(key) >= _MOST_FOLLOWED  # type: ignore[misc]  # both clients' type
            async with self._redis.pipeline() as pipe:
                if crowded:
                    pipe.delete(key)  # a client that opens no stream of its own receives none of it anyway
                pipe.hset(key, task_id, json.dumps(token))
                pipe.pexpire(key, self._idle_ms)
                pipe.publish(self._keys.push(session_id), self._seal(session_id, "push", followed))
                await pipe.execute()

    async def unfollow(self, session_id: str, task_id: str) -> None:
        """Send the session nothing more of this task."""
        with store_errors():
            await self._redis.hdel(self._keys.followed(session_id), task_id)  # type: ignore[misc]  # both clients' type

    async def take_over_stream(self, session_id: str, holder: str) -> None:
        """Make `holder` the process that serves the session's own stream, and notify the one before."""
        key = self._keys.session(session_id)
        with store_errors():
            async with self._redis.pipeline() as pipe:
                pipe.hset(key, "holder", holder)
                pipe.pexpire(
                    key, self._idle_ms
                )  # also where the session has just ended: then the key would have no other TTL
                pipe.publish(self._keys.push(session_id), self._seal(session_id, "push", {"holder": holder}))
                await pipe.execute()

    async def read_stream(self, session_id: str) -> tuple[str | None, dict[str, str | int | None]]:
        """Which process serves the session's own stream; the tasks the session follows, and their progress tokens."""
        with store_errors():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.hget(self._keys.session(session_id), "holder")
                pipe.hgetall(self._keys.followed(session_id))
                holder, found = await pipe.execute()
        tasks = {task_id.decode(): json.loads(token) for task_id, token in found.items()}
        return None if holder is None else holder.decode(), tasks

    async def push(self, session_id: str, message: Mapping[str, Any]) -> bool:
        """Send a message to the process that serves the session's own stream; False if there is none."""
        sealed = self._seal(session_id, "push", message)
        with store_errors():
            receivers = await self._redis.publish(self._keys.push(session_id), sealed)
        return bool(receivers)

    def open_push(self, session_id: str, pushed: bytes) -> dict[str, Any]:
        """What was pushed to the session's own stream: a message, or `follow`, `holder`, `closed` of the methods above.

        A message that is refused is in the log, and nothing here: `{}`.
        """
        try:
            message: dict[str, Any] = self._sealer.open(pushed, task_id=session_id, field="push")
        except DecryptionFailed:
            return {}
        return message

    async def signal(self, session_id: str, message: Mapping[str, Any]) -> None:
        """Notify the processes that serve calls of the session."""
        with store_errors():
            await self._redis.publish(self._keys.session(session_id), json.dumps(dict(message)))

    async def expect_reply(self, session_id: str, request_id: str) -> None:
        """Have the client's reply to this request kept when it comes; no other is."""
        with store_errors():
            await self._redis.set(self._keys.reply(f"{session_id}:{request_id}"), b"", px=self._idle_ms)

    async def put_reply(self, session_id: str, request_id: str, reply: Mapping[str, Any]) -> None:
        """Keep the client's reply to a request of ours, if it is expected, and notify the process that waits for it.

        Raises:
            BadArguments: it has values that are not JSON.
        """
        try:
            sealed = self._sealer.seal(dict(reply), task_id=f"{session_id}:{request_id}", field="reply")
        except (TypeError, ValueError) as exc:
            raise BadArguments("The reply holds a value or text that cannot be written as JSON.") from exc
        with store_errors():
            async with self._redis.pipeline() as pipe:
                pipe.set(self._keys.reply(f"{session_id}:{request_id}"), sealed, px=_REPLY_TTL, xx=True)
                pipe.publish(self._keys.session(session_id), json.dumps({"reply": request_id}))
                await pipe.execute()

    async def take_reply(self, session_id: str, request_id: str) -> dict[str, Any] | None:
        """The client's reply, once; None while there is none."""
        key = self._keys.reply(f"{session_id}:{request_id}")
        with store_errors():
            sealed = await self._redis.get(key)
            if not sealed:
                return None
            await self._redis.delete(key)
        reply: dict[str, Any] = self._sealer.open(sealed, task_id=f"{session_id}:{request_id}", field="reply")
        return reply

    def subscribe_signals(self, session_id: str, on_message: OnMessage) -> AbstractAsyncContextManager[None]:
        """Have `on_message` called for the session's signals."""
        return self._hub.subscribe([self._keys.session(session_id)], on_message)

    def subscribe_pushes(self, session_id: str, on_message: OnMessage) -> AbstractAsyncContextManager[None]:
        """Have `on_message` called for what is pushed to the session's own stream."""
        return self._hub.subscribe([self._keys.push(session_id)], on_message)

    def _seal(self, session_id: str, field: str, facts: Mapping[str, Any]) -> bytes:
        # What a client sends may have half characters, which only escaped JSON can hold.
        return self._sealer.seal_bytes(json.dumps(dict(facts)).encode(), task_id=session_id, field=field)

    def _touch(self, pipe: Any, session_id: str) -> None:
        for key in (self._keys.session(session_id), self._keys.followed(session_id), self._keys.calls(session_id)):
            pipe.pexpire(key, self._idle_ms)
        pipe.pexpire(self._keys.sessions, self._idle_ms)


def _session_field(principal: str, version: str) -> str:
    """The name under which what a client reports of itself is sealed: another owner cannot use the session."""
    return f"session:{principal}:{version}"
