"""Open calls whose streams any replica can resume, and what calls without a task have sent so far.

The stream of a task's call needs no copy: it is made from the task's own events. Nothing here knows the protocol's
messages.
"""

import json
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from redis.asyncio import Redis

from taskmill.engine.errors import DecryptionFailed, SealKeyAwaited
from taskmill.store.connection.client import store_errors
from taskmill.store.formats.keys import Keys
from taskmill.store.pubsub.hub import ChannelHub
from taskmill.store.pubsub.subscriber import OnMessage
from taskmill.store.seal_keys import sealer_of
from taskmill.store.settings import StoreSettings

__all__ = ["AbandonedCallStore", "CallKind", "CallTimeoutStore", "OpenCall", "OpenCallStore"]

_CALL_TTL = 24 * 3600 * 1000
_RUNNING_TTL = 60_000
"""Longer than three silent heartbeats of a replica: a replica that died leaves its outboxes no longer than that."""
_ENDED_TTL = 5 * 60_000

RequestId = str | int


class CallKind(StrEnum):
    """How the request is related to its task."""

    CALL = "call"
    """It created the task; cancelling it cancels the task."""
    WAIT = "wait"
    """It waits for a task that another call created."""
    RESULT = "result"
    """The same, by the protocol's own method, `tasks/result`."""


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A request of a session that is answered by a stream."""

    id: str
    """Unguessable; event ids of its stream begin with it."""
    session: str
    request_id: RequestId
    task_id: str | None = None
    """None: a call without a task; what it sends is in its outbox."""
    token: RequestId | None = None
    """Progress token, None = the client wants no progress."""
    hand_off_ms: int | None = None
    """When the call is handed off, by the store's clock; None = never."""
    kind: CallKind = CallKind.CALL
    since: int = 0
    """Number of the task's last event when the call came: progress up to it is not this call's."""
    digest: str = ""
    """Of the call, by which its task is found again after a disconnect; empty = no call finds it."""


class OpenCallStore:
    """The open calls of one deployment."""

    def __init__(self, redis: Redis, settings: StoreSettings, keys: Keys, hub: ChannelHub) -> None:
        self._redis = redis
        self._keys = keys
        self._hub = hub
        self._sealer = sealer_of(settings)
        self._idle_ms = int(settings.session_idle * 1000)

    async def begin(self, call: OpenCall) -> None:
        """Keep an open call, so that its stream can be resumed and its request cancelled anywhere."""
        with store_errors():
            async with self._redis.pipeline() as pipe:
                self._put(pipe, call)
                pipe.hset(self._keys.calls(call.session), json.dumps(call.request_id), call.id)
                pipe.pexpire(self._keys.calls(call.session), self._idle_ms)
                await pipe.execute()

    async def keep(self, call: OpenCall) -> None:
        """Keep a call without a request, so that replies to questions that are asked in its name find their task."""
        with store_errors():
            async with self._redis.pipeline() as pipe:
                self._put(pipe, call)
                await pipe.execute()

    def _put(self, pipe: Any, call: OpenCall) -> None:
        facts = {
            "session": call.session,
            "request_id": json.dumps(call.request_id),
            "task_id": call.task_id or "",
            "token": json.dumps(call.token),
            "hand_off_ms": "" if call.hand_off_ms is None else call.hand_off_ms,
            "kind": call.kind,
            "since": call.since,
            "digest": call.digest,
        }
        pipe.hset(self._keys.call(call.id), mapping=facts)
        pipe.pexpire(self._keys.call(call.id), _CALL_TTL)

    async def find(self, session_id: str, call_id: str) -> OpenCall | None:
        """The call; None if there is none, or it is another session's."""
        with store_errors():
            found = await self._redis.hgetall(self._keys.call(call_id))  # type: ignore[misc]  # both clients' type
        fact = {name.decode(): value.decode() for name, value in found.items()}
        if fact.get("session") != session_id:
            return None
        return OpenCall(
            id=call_id,
            session=session_id,
            request_id=json.loads(fact["request_id"]),
            task_id=fact["task_id"] or None,
            token=json.loads(fact["token"]),
            hand_off_ms=int(fact["hand_off_ms"]) if fact["hand_off_ms"] else None,
            kind=CallKind(fact["kind"]),
            since=int(fact["since"]),
            digest=fact.get("digest", ""),  # none in a call of an older version
        )

    async def find_by_request(self, session_id: str, request_id: RequestId) -> OpenCall | None:
        """The open call of a request, None if it is answered or was never known."""
        with store_errors():
            found = await self._redis.hget(self._keys.calls(session_id), json.dumps(request_id))  # type: ignore[misc]
        return None if found is None else await self.find(session_id, found.decode())

    async def is_awaited(self, session_id: str, task_id: str) -> bool:
        """Whether an open call of the session waits for the task."""
        with store_errors():
            calls = await self._redis.hvals(self._keys.calls(session_id))  # type: ignore[misc]  # both clients' type
            async with self._redis.pipeline(transaction=False) as pipe:
                for call_id in calls:
                    pipe.hget(self._keys.call(call_id.decode()), "task_id")
                return task_id.encode() in await pipe.execute()

    async def first_shown_at(self, call_id: str, key: str, number: int) -> int:
        """The event number at which the stream of a call showed a question: `number`, unless it did before."""
        with store_errors():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.hsetnx(self._keys.call(call_id), f"shown:{key}", str(number))
                pipe.hget(self._keys.call(call_id), f"shown:{key}")
                _, shown = await pipe.execute()
        return int(shown)

    async def touch(self, call: OpenCall) -> None:
        """Keep a call that is being served."""
        with store_errors():
            await self._redis.pexpire(self._keys.call(call.id), _CALL_TTL)

    async def end(self, call: OpenCall) -> None:
        """The request is answered; the end of its stream can be read again for a while."""
        with store_errors():
            async with self._redis.pipeline() as pipe:
                pipe.hdel(self._keys.calls(call.session), json.dumps(call.request_id))
                pipe.pexpire(self._keys.call(call.id), _ENDED_TTL)
                pipe.pexpire(self._keys.outbox(call.id), _ENDED_TTL)
                await pipe.execute()

    async def append_message(self, call_id: str, number: int, message: Mapping[str, Any] | None) -> None:
        """Append message `number` (from 1) to the outbox of a call; None = only renew its expiry."""
        key = self._keys.outbox(call_id)
        with store_errors():
            async with self._redis.pipeline() as pipe:
                if message is not None:
                    sealed = self._sealer.seal(dict(message), task_id=call_id, field=f"outbox:{number}")
                    pipe.xadd(key, {"m": sealed}, id=f"{number}-0")
                pipe.pexpire(key, _RUNNING_TTL)
                pipe.publish(key, number)
                await pipe.execute()

    async def read_messages(self, call_id: str, after: int) -> list[tuple[int, dict[str, Any]]] | None:
        """Messages with numbers above `after`; None when the outbox has expired, or is refused.

        Then the replica that wrote it died, or the call ended long ago.
        """
        key = self._keys.outbox(call_id)
        with store_errors():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.exists(key)
                pipe.xrange(key, min=f"({after}-0")
                exists, entries = await pipe.execute()
        if not exists:
            return None
        stored = [(int(entry_id.split(b"-")[0]), field[b"m"]) for entry_id, field in entries]
        try:
            return [
                (number, self._sealer.open(sealed, task_id=call_id, field=f"outbox:{number}"))
                for number, sealed in stored
            ]
        except SealKeyAwaited:
            raise
        except DecryptionFailed:  # it is in the log
            return None

    def subscribe(self, call_id: str, on_message: OnMessage) -> AbstractAsyncContextManager[None]:
        """Have `on_message` called when the call has sent something."""
        return self._hub.subscribe([self._keys.outbox(call_id)], on_message)


class AbandonedCallStore:
    """Tasks of held calls whose client went away, by owner and digest of the call.

    For a while the same call by the same owner finds its task again.
    """

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def add(self, principal: str, digest: str, task_id: str, *, for_ms: int) -> None:
        """Note that the client of a call has gone; the latest task of several equal calls counts."""
        with store_errors():
            await self._redis.set(self._keys.left(f"{principal}:{digest}"), task_id, px=for_ms)

    async def take(self, principal: str, digest: str) -> str | None:
        """The abandoned task, for the first who asks; None if there is none."""
        with store_errors():
            found = await self._redis.getdel(self._keys.left(f"{principal}:{digest}"))
        return None if found is None else found.decode()

    async def forget(self, principal: str, digest: str, task_id: str) -> None:
        """The client of the call is back: the same call is another one from now on."""
        key = self._keys.left(f"{principal}:{digest}")
        with store_errors():
            if await self._redis.get(key) == task_id.encode():
                await self._redis.delete(key)


class CallTimeoutStore:
    """What was learned of the call timeouts of clients, by a digest of who they are."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def learn(self, client: str, seconds: float, *, for_ms: int) -> None:
        """Note that the client gave a call up after so many seconds; what was learned last counts."""
        with store_errors():
            await self._redis.set(self._keys.call_timeout(client), f"{seconds:.3f}", px=for_ms)

    async def find(self, client: str) -> float | None:
        """The call timeout of the client, seconds; None = it has given no call up."""
        with store_errors():
            found = await self._redis.get(self._keys.call_timeout(client))
        return None if found is None else float(found)
