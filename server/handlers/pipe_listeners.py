"""Has clients of revisions before 2026 over standard input and output be sent that a list has changed.

Over HTTP the session's own stream does that, and from 2026 on the stream of `subscriptions/listen`.
"""

import asyncio
from typing import Any

from mcp.server.connection import Connection
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.subscriptions import ServerEvent

from taskmill.server.protocol.change_bus import ChangeBus, list_change_notification
from taskmill.server.protocol.sdk_private import connection_of
from taskmill.server.sessions.dispatch import dispatch_of

__all__ = ["PipeListeners"]


class PipeListeners:
    """Server middleware."""

    def __init__(self, changes: ChangeBus) -> None:
        self._changes = changes

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Pass everything on."""
        result = await call_next(ctx)
        # A connection of 2026 over pipes begins with another request.
        if ctx.method == "initialize" and dispatch_of(ctx.request) is None:
            connection = connection_of(ctx.session)
            listener = _Listener(connection)
            connection.exit_stack.callback(self._changes.subscribe(listener.receive))
        return result


class _Listener:
    """One connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending: set[asyncio.Task[None]] = set()

    def receive(self, event: ServerEvent) -> None:
        """Send it in the background: a client that does not read keeps no one waiting."""
        message = list_change_notification(event)
        if message is None or not self._connection.initialized.is_set():
            return
        sending = asyncio.create_task(self._connection.notify(message["method"], None), name="taskmill.lists")
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)
