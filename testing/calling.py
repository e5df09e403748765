"""What clients of every class have in common: how they are told of a call, and how they reach the server."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import httpx2
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult

from taskmill.testing.answers import Answerer
from taskmill.testing.timeline import Moment

__all__ = ["Called", "ClientKind", "VirtualClient", "Wire"]


class ClientKind(StrEnum):
    """The four classes of clients."""

    TASKS_2026 = "tasks-2026"
    """Protocol 2026-07-28 with the tasks extension."""
    TASKS_2025 = "tasks-2025"
    """Protocol 2025-11-25, asking for a task with every call."""
    HELD = "held"
    """No tasks: its call is held open, with progress."""
    HANDED_OFF = "handed-off"
    """No tasks and little patience: it follows with the tools that a handed-off call names."""


@dataclass
class Called:
    """What came of a call, and what the client was shown on the way."""

    result: CallToolResult | None = None
    task_id: str | None = None
    """The task, where the client was told of one."""
    seen: list[Moment] = field(default_factory=list)
    """States and words, by this protocol's names, each once as it changed; or the progress of a held call."""
    questions: list[dict[str, Any]] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text of the result."""
        content = self.result.content if self.result else []
        return "\n".join(block.text for block in content if block.type == "text")

    def saw(self, status: str, message: str | None) -> None:
        """Note what was shown, if it is new."""
        moment = Moment(status, message or "")
        if self.seen[-1:] != [moment]:
            self.seen.append(moment)


class VirtualClient(Protocol):
    """One client."""

    called: Called
    """The last call, also while it is under way."""

    async def call(self, tool: str, /, **arguments: Any) -> Called:
        """Call a tool and follow it to its result, the way this class of client does.

        Raises:
            MCPError: the server, or the tool, answered with a protocol error.
        """


@dataclass(frozen=True)
class Wire:
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
