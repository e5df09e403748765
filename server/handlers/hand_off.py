"""When a call of a client without tasks is handed off: by what is known of its host, and by what was learned of it.

Learned is a client's call timeout, from a call that it gave up. The next call of the same client is handed off before.
"""

import hashlib
import json
from enum import Enum
from typing import Any

import structlog
from mcp.server.context import ServerRequestContext
from starlette.requests import Request

from taskmill.engine.policy import as_timedelta
from taskmill.server.auth.principal import list_owner, owner
from taskmill.server.handlers.known_hosts import HostTable
from taskmill.server.protocol.cancellation import timed_out_requests
from taskmill.server.protocol.client_class import client_info
from taskmill.server.protocol.sdk_private import was_cancelled_by_client
from taskmill.server.sessions.dispatch import dispatch_of
from taskmill.server.tool_host import HostTool
from taskmill.server.tools.runtime import ServerRuntime

__all__ = ["CallEnd", "HandOff", "end_of_call"]

log = structlog.get_logger()
_Context = ServerRequestContext[Any, Any]
_SHARE = 0.8
"""Of a learned call timeout: when a call is handed off."""
_SHORTEST = 2.0
"""Seconds. A client that leaves sooner was ended by Ctrl-C; no host has such a call timeout."""
_TIMEOUT_TTL = 24 * 3600 * 1000
_DISCONNECT_TTL = 3600 * 1000
"""Shorter: a person may have ended the host."""


class CallEnd(Enum):
    """How a held call ended before it was answered."""

    CANCELLED = "cancelled"
    """A person cancelled it."""
    TIMED_OUT = "timed out"
    """The client's call timeout passed, and the client reported it."""
    DISCONNECTED = "disconnected"
    """The client closed the connection: its call timeout passed, or a person ended it."""
    STOPPED = "stopped"
    """This side ended it: the server stops, or the stream continues on another connection."""


async def end_of_call(ctx: _Context) -> CallEnd:
    """How a call ended whose handler was cancelled."""
    dispatch = dispatch_of(ctx.request)
    if dispatch is not None:
        if dispatch.has_timed_out:
            return CallEnd.TIMED_OUT
        if not dispatch.cancel_requested.is_set():
            return CallEnd.DISCONNECTED if dispatch.response.has_client_left else CallEnd.STOPPED
    elif ctx.request_id in timed_out_requests.get(set()):
        return CallEnd.TIMED_OUT
    if was_cancelled_by_client(ctx.session):
        return CallEnd.CANCELLED
    request = ctx.request
    return CallEnd.DISCONNECTED if isinstance(request, Request) and await request.is_disconnected() else CallEnd.STOPPED


class HandOff:
    """Decides when calls are handed off."""

    def __init__(self, runtime: ServerRuntime, hosts: HostTable) -> None:
        self._runtime = runtime
        self._hosts = hosts

    async def after(self, ctx: _Context, tool: HostTool | None = None) -> float | None:
        """Seconds until a call of this client is handed off, None = never.

        Raises:
            StoreUnavailable: the store did not answer.
        """
        usual = self._usual(ctx, tool)
        timeout = await self._runtime.store.call_timeouts.find(_client(ctx))
        if timeout is None:
            return usual
        return timeout * _SHARE if usual is None else min(usual, timeout * _SHARE)

    async def learn(self, ctx: _Context, end: CallEnd, held_for: float) -> None:
        """Learn from a call that was held for so many seconds.

        A disconnect of a known host teaches nothing: its call timeout is known, so a person has ended it.

        Raises:
            StoreUnavailable: the store did not answer.
        """
        has_timed_out = end is CallEnd.TIMED_OUT
        is_unknown = self._hosts.find(*client_info(ctx)) is None
        if held_for < _SHORTEST or not (has_timed_out or (end is CallEnd.DISCONNECTED and is_unknown)):
            return
        ttl = _TIMEOUT_TTL if has_timed_out else _DISCONNECT_TTL
        await self._runtime.store.call_timeouts.learn(_client(ctx), held_for, for_ms=ttl)
        log.info("client.gave_up", client=client_info(ctx)[0], held_for=round(held_for, 1), how=end.value)

    def _usual(self, ctx: _Context, tool: HostTool | None) -> float | None:
        """For a known host the time in its row; of other clients one that asks for progress is held, and one that does
        not gets the default.
        """
        host = self._hosts.find(*client_info(ctx))
        has_progress = bool(ctx.meta and ctx.meta.get("progress_token") is not None)
        if host is not None and host.handoff_after is None:
            return None
        if host is None and has_progress:
            return None
        own = tool.policy.handoff_after if tool else None
        if own is not None:
            return as_timedelta(own, what="handoff_after").total_seconds()
        return self._runtime.settings.handoff_after if host is None else host.handoff_after


def _client(ctx: _Context) -> str:
    """Digest of who the client is: its principal and name. Of anonymous clients with a session, only the session."""
    parts = [list_owner(ctx) or owner(ctx), client_info(ctx)[0]]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
