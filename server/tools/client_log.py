"""The log line that tells which clients call: one at the first call of a session, or of a connection without one."""

from typing import Any

import structlog
from mcp.server.context import ServerRequestContext

from taskmill.server.auth.principal import list_owner, owner
from taskmill.server.protocol.client_class import ClientClass, client_class_of, client_info

__all__ = ["ClientLog"]

log = structlog.get_logger()
_MOST_REMEMBERED = 10_000
"""Clients; after so many others a client is logged again."""
_LONGEST_NAME = 100


class ClientLog:
    """The clients whose first call this process has seen."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, ...]] = set()

    def note_call(self, ctx: ServerRequestContext[Any, Any], *, handoff_after: float | None = None) -> None:
        """Log the client of a call of a task tool, unless it was logged.

        A client of 2026-07-28 has no session: it is known by its owner, name and version. `handoff_after`: seconds
        until its call is handed off, None = never.
        """
        name, version = client_info(ctx)
        client_class = client_class_of(ctx)
        facts = (name[:_LONGEST_NAME], version[:_LONGEST_NAME], ctx.protocol_version, _words(client_class))
        client = (list_owner(ctx) or owner(ctx), *facts)
        if client in self._seen:
            return
        if len(self._seen) >= _MOST_REMEMBERED:
            self._seen.clear()
        self._seen.add(client)
        log.info(
            "client.connected",
            client=facts[0],
            version=facts[1],
            revision=facts[2],
            client_class=facts[3],
            handoff_after=None if handoff_after is None else round(handoff_after, 1),
        )


def _words(client_class: ClientClass) -> str:
    return "without tasks" if client_class is ClientClass.PLAIN else client_class.value
