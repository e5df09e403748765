"""Has clients be sent that a list of a server behind Taskmill has changed, in the process that serves them.

A report comes on a session of a caller, in this process or in another one, which publishes it; or on a session that is
held for that while a client listens. One that could not be held is made again, and what has changed meanwhile is seen.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import anyio
import structlog
from mcp.client.session import ClientSession
from mcp.client.subscriptions import SubscriptionLost, listen
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import ServerEvent
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from taskmill.adapters.remote.client import UpstreamClient
from taskmill.adapters.remote.provider import RemoteProvider
from taskmill.adapters.remote.words import GONE, UpstreamUnreachable, cause_of
from taskmill.engine.errors import StoreUnavailable
from taskmill.server.protocol.change_bus import LIST_CHANGES, ChangeBus
from taskmill.store.sessions.list_changes import ListChanges

__all__ = ["ListWatch"]

log = structlog.get_logger()
_GATHER = 0.1
"""Seconds in which reports become one notification..."""
_PAUSE = 1.0
"""...and seconds after one: a server may report the same many times."""
_CHECK_EVERY = 2.0
_PING_EVERY = 30.0
_PING_TIMEOUT = 30.0
_STOP_TRIES, _STOP_EVERY = 10, 1.0
_FIRST_RETRY, _LONGEST_RETRY = 1.0, 60.0
_FAILURES = (UpstreamUnreachable, MCPError, SubscriptionLost, TimeoutError, ValidationError, *GONE)
_KINDS = {event: kind for kind, event in LIST_CHANGES.items()}


class ListWatch:
    """The lists of the servers of one TARGET, while they are served."""

    def __init__(self, providers: Sequence[RemoteProvider], bus: ChangeBus) -> None:
        """`bus`: whose listeners are sent what has changed."""
        self._providers = providers
        self._bus = bus
        self._pending: set[str] = set()
        self._has_pending = asyncio.Event()
        self._publishing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self, changes: ListChanges) -> AsyncIterator[None]:
        """Watch in the block."""

        def publish(kinds: frozenset[str]) -> None:
            publishing = asyncio.create_task(self._publish(changes, kinds), name="taskmill.lists")
            self._publishing.add(publishing)
            publishing.add_done_callback(self._publishing.discard)

        watches = [_Watch(one, self._bus, self._note) for one in self._providers if one.reported_kinds]
        tasks = [asyncio.create_task(one.run(), name="taskmill.list-watch") for one in watches]
        tasks.append(asyncio.create_task(self._send(), name="taskmill.lists"))
        for provider in self._providers:
            provider.on_change.append(publish)
        try:
            async with changes.subscribe(self._note_all):
                yield
        finally:
            for provider in self._providers:
                provider.on_change.remove(publish)
            await _stop([*tasks, *self._publishing])
            for provider in self._providers:
                await provider.sessions.wait_until_closed()

    async def _publish(self, changes: ListChanges, kinds: frozenset[str]) -> None:
        """Report to every process that serves clients, this one among them."""
        try:
            await changes.publish(kinds)
        except StoreUnavailable:
            self._note_all(kinds)

    def _note_all(self, kinds: frozenset[str]) -> None:
        for kind in kinds & LIST_CHANGES.keys():
            self._note(kind)

    def _note(self, kind: str) -> None:
        for provider in self._providers:
            provider.forget()
        self._pending.add(kind)
        self._has_pending.set()

    async def _send(self) -> None:
        while True:
            await self._has_pending.wait()
            await asyncio.sleep(_GATHER)
            self._has_pending.clear()
            kinds, self._pending = self._pending, set()
            for kind in sorted(kinds):
                await self._bus.publish(LIST_CHANGES[kind])
            await asyncio.sleep(_PAUSE)


class _Watch:
    """A session with one server while a client listens."""

    def __init__(self, provider: RemoteProvider, bus: ChangeBus, note: Callable[[str], None]) -> None:
        self._provider = provider
        self._bus = bus
        self._note = note
        self._seen: dict[str, str] = {}
        """What was listed last, by kind."""

    async def run(self) -> None:
        pause = _FIRST_RETRY
        while True:
            await self._bus.wait_for_listener()
            begun = monotonic()
            try:
                await self._hold()
            except _FAILURES as exc:
                if _is_stopped():
                    return
                log.info("upstream.not_watched", server=self._provider.sessions.upstream.label, why=cause_of(exc))
            pause = min(_LONGEST_RETRY, pause * 2) if monotonic() - begun < _LONGEST_RETRY else _FIRST_RETRY
            await asyncio.sleep(pause)

    async def _hold(self) -> None:
        """Hold a session until it ends, or no client listens any more."""
        client = await self._provider.sessions.watching(self._note)
        try:
            async with anyio.create_task_group() as group:
                if client.session.protocol_version in MODERN_PROTOCOL_VERSIONS:
                    async with listen(client.session, **_filter(self._provider.reported_kinds)) as changes:
                        await self._compare(client.session)
                        group.start_soon(self._check, client, group.cancel_scope)
                        async for event in changes:
                            self._receive(event)
                    group.cancel_scope.cancel()
                else:
                    await self._compare(client.session)
                    await self._check(client, group.cancel_scope)
        except BaseExceptionGroup as group_of:
            raise group_of.exceptions[0] from None
        finally:
            self._provider.sessions.close_soon(client)

    def _receive(self, event: ServerEvent) -> None:
        if (kind := _KINDS.get(event)) is not None:
            self._note(kind)

    async def _check(self, client: UpstreamClient, scope: anyio.CancelScope) -> None:
        """Return when the session has ended or is not wanted: a server that was restarted does not say so itself."""
        pinged = monotonic()
        is_modern = client.session.protocol_version in MODERN_PROTOCOL_VERSIONS
        while self._bus.has_listeners and not client.is_dead:
            await asyncio.sleep(_CHECK_EVERY)
            if not is_modern and monotonic() - pinged > _PING_EVERY:
                pinged = monotonic()
                async with asyncio.timeout(_PING_TIMEOUT):
                    await client.session.send_ping()
        scope.cancel()

    async def _compare(self, session: ClientSession) -> None:
        """Note the lists that are others than those that clients know."""
        now = await self._provider.lists(session)
        before = self._seen or {"tools": _text(self._provider.listed)}
        self._seen = {kind: _text(listed) for kind, listed in now.items()}
        for kind, text in self._seen.items():
            if kind in before and before[kind] != text:
                self._note(kind)


async def _stop(tasks: Collection[asyncio.Task[None]]) -> None:
    """End the tasks. One that just connects may take the cancel for a failure, and is cancelled again."""
    for _ in range(_STOP_TRIES):
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=_STOP_EVERY)
        if not tasks:
            return


def _is_stopped() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _filter(kinds: Sequence[str]) -> dict[str, Any]:
    return {f"{kind}_list_changed": True for kind in kinds}


def _text(listed: Sequence[Any]) -> str:
    return json.dumps([one.model_dump(mode="json", by_alias=True) for one in listed], sort_keys=True)
