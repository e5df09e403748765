"""What clients of every class have in common: the record of a call, and how they reach the server."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import httpx2
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult

from taskmill.testing.answers import Answerer
from taskmill.testing.timeline import StatusUpdate

__all__ = ["CallRecord", "ClientKind", "Endpoint", "VirtualClient"]


class ClientKind(StrEnum):
    """The four classes of clients."""

    TASKS_2026 = "tasks-2026"
    """Protocol 2026-07-28 with the tasks extension."""
    TASKS_2025 = "tasks-2025"
    """Protocol 2025-11-25, asking for a task with every call."""
    HELD = "held"
    """No tasks: its call is held open, with progress."""
    HANDED_OFF = "handed-off"
    """No tasks and a short call timeout: it follows with the tools that a handed-off call names."""


@dataclass
class CallRecord:
    """The result of a call, and what the client received before it."""

    result: CallToolResult | None = None
    task_id: str | None = None
    """The task, where the client received its id."""
    seen: list[StatusUpdate] = field(default_factory=list)
    """States and messages, by this protocol's names, each once as it changed; or the progress of a held call."""
    questions: list[dict[str, Any]] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text of the result."""
        content = self.result.content if self.result else []
        return "\n".join(block.text for block in content if block.type == "text")

    def record_update(self, status: str, message: str | None) -> None:
        """Record what was received, if it is new."""
        update = StatusUpdate(status, message or "")
        if self.seen[-1:] != [update]:
            self.seen.append(update)


class VirtualClient(Protocol):
    """One client."""

    called: CallRecord
    """The last call, also while it runs."""

    async def call(self, tool: str, /, **arguments: Any) -> CallRecord:
        """Call a tool and follow it to its result, the way this class of client does.

        Raises:
            MCPError: the server, or the tool, answered with a protocol error.
        """


@dataclass(frozen=True)
class Endpoint:
    """Where a client calls, and as whom."""

    url: str
    answerer: Answerer
    token: str | None = None

    @asynccontextmanager
    async def transport(self) -> AsyncIterator[Any]:
        """The streams of the SDK's HTTP transport."""
        headers: Mapping[str, str] = {"authorization": f"Bearer {self.token}"} if self.token else {}
        timeout = httpx2.Timeout(30, read=300)
        async with (
            httpx2.AsyncClient(headers=headers, timeout=timeout, follow_redirects=True) as http,
            streamable_http_client(self.url, http_client=http) as streams,
        ):
            yield streams
