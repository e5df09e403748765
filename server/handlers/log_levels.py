"""Remembers the level that a client sets with `logging/setLevel`, for the log messages of its tasks."""

from collections.abc import Mapping
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp_types import LOG_LEVEL_META_KEY

from taskmill.server.protocol.errors import wire_errors
from taskmill.server.protocol.sdk_private import connection_of
from taskmill.server.sessions.dispatch import dispatch_of
from taskmill.server.streams.log_messages import LOG_LEVEL, lowest_level
from taskmill.server.tools.runtime import ServerRuntime

__all__ = ["LogLevels", "asked_level", "level_of"]

Request = ServerRequestContext[Any, Any]


class LogLevels:
    """Server middleware."""

    def __init__(self, runtime: ServerRuntime) -> None:
        self._runtime = runtime

    async def __call__(self, ctx: Request, call_next: CallNext) -> HandlerResult:
        """Pass everything on."""
        result = await call_next(ctx)
        if ctx.method != "logging/setLevel":
            return result
        level = str((ctx.params or {}).get("level"))
        dispatch = dispatch_of(ctx.request)
        if dispatch is None:
            connection_of(ctx.session).state[LOG_LEVEL] = level
        elif dispatch.session is not None and self._runtime.keeps_tasks:
            with wire_errors():
                await self._runtime.store.sessions.note_of_client(dispatch.session, LOG_LEVEL, level)
        return result


def level_of(ctx: Request) -> str | None:
    """From which level on the client of a request is sent log messages, None = it is sent none."""
    return lowest_level(ctx.protocol_version, _kept(ctx), _meta(ctx))


def asked_level(ctx: Request) -> str | None:
    """The level that the client has asked for, with the request or for the session; None = it has not."""
    asked: str | None = (_meta(ctx) or {}).get(LOG_LEVEL_META_KEY)
    return asked or _kept(ctx).get(LOG_LEVEL)


def _kept(ctx: Request) -> Mapping[str, Any]:
    dispatch = dispatch_of(ctx.request)
    if dispatch is None:
        return connection_of(ctx.session).state
    return {} if dispatch.session is None else dispatch.session.client


def _meta(ctx: Request) -> dict[str, Any] | None:
    meta = (ctx.params or {}).get("_meta")
    return meta if isinstance(meta, dict) else None
