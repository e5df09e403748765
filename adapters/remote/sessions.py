"""The sessions of one server behind Taskmill, in one process: one for each caller, shared by that caller's calls.

Where nothing tells callers apart, a call or task has one of its own from its beginning to its end.

FastMCP's proxy itself opens a session for each request over HTTP, and shares one among all callers over pipes.
"""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any

import anyio
import structlog

from taskmill.adapters.remote.caller import Mode, UpstreamCaller, present_caller
from taskmill.adapters.remote.client import UpstreamClient
from taskmill.adapters.remote.target import Upstream
from taskmill.adapters.remote.transports import transport_to
from taskmill.adapters.remote.words import UpstreamUnreachable, cause_of

__all__ = ["UpstreamSessions"]

log = structlog.get_logger()
_IDLE = 60.0
"""Seconds without a use after which a session ends."""
_LONGEST_WAIT_FOR_ANSWER = 600.0
"""The same, of one whose caller is asked something in the middle of a call."""
_MOST_WAITING = 100
"""Sessions that wait so; with one more the oldest of them ends."""
_TRIES = 3
_CLOSE_TIMEOUT = 5.0
_FIRST_PAUSE = 0.5
_LONGEST_CONNECT = 45.0
"""Seconds after which no further try is made: a server that is silent is silent again."""


class UpstreamSessions:
    """Opens sessions, finds them again, and closes them when they are idle. Belongs to one event loop at a time."""

    def __init__(self, upstream: Upstream, on_list_changed: Callable[[str], None]) -> None:
        self.upstream = upstream
        self._on_list_changed = on_list_changed
        self._open: dict[UpstreamCaller, asyncio.Task[UpstreamClient]] = {}
        self._single: set[UpstreamClient] = set()
        self._waiting: dict[str, UpstreamCaller] = {}
        """Whose call asked something, by the state that its client sends back with the answer."""
        self._modes: dict[Mode, Mode] = {}
        """The mode that worked, by the one that was preferred."""
        self._status: int | None = None
        """Of HTTP: of the last answer."""
        self._closing: set[asyncio.Task[Any]] = set()
        self._closing_idle: asyncio.Task[None] | None = None

    @property
    def open_count(self) -> int:
        """How many sessions are open, or being opened or closed."""
        return len(self._open) + len(self._single) + len(self._closing)

    async def client(self) -> UpstreamClient:
        """The session of the present caller, connected.

        Raises:
            UpstreamUnreachable: there is no connection, after some tries.
        """
        caller = present_caller()
        if self._closing_idle is None:
            self._closing_idle = asyncio.create_task(self._close_idle(), name="taskmill.upstream")
        if not caller.is_shared:
            single = await self._connect(caller.mode)
            single.on_unused = self._close_single
            self._single.add(single)
            return single
        found = self._open.get(caller)
        if found is not None and _is_usable(found):
            client = await asyncio.shield(found)
            if not client.is_dead:
                client.used_at = anyio.current_time()
                return client
        opening = self._open.get(caller)
        if opening is found:
            if found is not None:
                self._discard(found)
            opening = self._open[caller] = asyncio.create_task(self._connect(caller.mode))
        assert opening is not None
        return await asyncio.shield(opening)

    async def watching(self, on_list_changed: Callable[[str], None]) -> UpstreamClient:
        """A session for no caller, which is only sent changes of lists; it is open until it is closed.

        Raises:
            UpstreamUnreachable: there is no connection, after some tries.
        """
        client = await self._connect("auto")
        client.on_list_changed = on_list_changed
        return client

    def asked_by(self, state: str | None) -> UpstreamCaller | None:
        """Whose call asked what is answered now, by the state that came back; None = nothing of it is left."""
        return self._waiting.pop(state, None) if state else None

    def end_call(self, caller: UpstreamCaller, asked: str | None = None) -> None:
        """A call or task has ended, and its session with it, if that was for it alone.

        `asked`: it has not ended, but asked something. What it waits for comes with this state, and needs the session.
        """
        if not caller.is_one_call or caller not in self._open:
            return
        if asked is None:
            self._discard(self._open.pop(caller))
            return
        self._waiting[asked] = caller
        if len(self._waiting) > _MOST_WAITING:
            self.end_call(self._waiting.pop(next(iter(self._waiting))))

    async def close(self) -> None:
        """Close all sessions."""
        if self._closing_idle is not None:
            self._closing_idle.cancel()
            self._closing_idle = None
        for caller in list(self._open):
            self._discard(self._open.pop(caller))
        for single in list(self._single):
            self._close_single(single)
        self._waiting.clear()
        if self._closing:
            await asyncio.wait(self._closing)

    async def _connect(self, preferred: Mode) -> UpstreamClient:
        pause = _FIRST_PAUSE
        begun = monotonic()
        for left in reversed(range(_TRIES)):
            try:
                return await self._connect_once(preferred, begun)
            except FileNotFoundError as exc:
                raise UpstreamUnreachable(self.upstream.label, exc) from None
            except Exception as exc:
                failed = self._unreachable(exc)
                log.warning("upstream.unreachable", server=self.upstream.label, why=failed.why, tries_left=left)
                if left == 0 or _took_too_long(begun):
                    raise failed from None
            await asyncio.sleep(pause)
            pause *= 2
        raise AssertionError("the last try raises")

    def _unreachable(self, cause: Exception) -> UpstreamUnreachable:
        has_token = any(name.lower() == "authorization" for name in self.upstream.headers)
        return UpstreamUnreachable(self.upstream.label, cause, self._status, has_token=has_token)

    def _note_status(self, status: int) -> None:
        self._status = status

    async def _connect_once(self, preferred: Mode, begun: float) -> UpstreamClient:
        """Connect in the preferred revision; where the server ends at that, in the other."""
        known = self._modes.get(preferred)
        others: dict[Mode, Mode] = {"auto": "legacy", "legacy": "auto"}
        modes = [known] if known else [preferred, others[preferred]]
        for mode in modes:
            self._status = None
            client = UpstreamClient(transport_to(self.upstream, self._note_status), mode, self._on_list_changed)
            try:
                await client.open()
            except BaseException as exc:
                await _close(client)
                if mode == modes[-1] or not isinstance(exc, Exception) or _took_too_long(begun):
                    raise
                log.debug("upstream.other_revision", server=self.upstream.label, mode=mode, why=cause_of(exc))
            else:
                self._modes[preferred] = mode
                client.used_at = anyio.current_time()
                return client
        raise AssertionError("the last mode raises")

    def _discard(self, opening: "asyncio.Task[UpstreamClient]") -> None:
        """Close a session, or stop opening it."""
        if not opening.done():
            opening.cancel()
            self._closing.add(opening)
            opening.add_done_callback(self._closing.discard)
        elif _is_usable(opening):
            self.close_soon(opening.result())

    def _close_single(self, client: UpstreamClient) -> None:
        self._single.discard(client)
        self.close_soon(client)

    async def wait_until_closed(self) -> None:
        """Return when no session is being closed any more, or after some seconds."""
        if self._closing:
            await asyncio.wait(self._closing, timeout=_CLOSE_TIMEOUT)

    def close_soon(self, client: UpstreamClient) -> None:
        """Close a session in the background."""
        closing = asyncio.create_task(_close(client))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _close_idle(self) -> None:
        while True:
            await asyncio.sleep(_IDLE / 4)
            now = anyio.current_time()
            for caller, opening in list(self._open.items()):
                if not opening.done():
                    continue
                client = opening.result() if _is_usable(opening) else None
                longest = _LONGEST_WAIT_FOR_ANSWER if caller in self._waiting.values() else _IDLE
                if client is None or client.is_dead or (not client.users and now - client.used_at > longest):
                    del self._open[caller]
                    self._discard(opening)
            self._waiting = {state: caller for state, caller in self._waiting.items() if caller in self._open}
            for single in list(self._single):
                if not single.users and now - single.used_at > _IDLE:
                    self._close_single(single)


def _took_too_long(begun: float) -> bool:
    return monotonic() - begun > _LONGEST_CONNECT


def _is_usable(opening: "asyncio.Task[UpstreamClient]") -> bool:
    return not opening.done() or (not opening.cancelled() and opening.exception() is None)


async def _close(client: UpstreamClient) -> None:
    try:
        await client.close()
    except Exception as exc:
        log.debug("upstream.close_failed", why=cause_of(exc))
