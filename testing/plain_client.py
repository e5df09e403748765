"""Clients without tasks: one whose call is held open with progress, and one whose call is handed off before the end."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp.client import Client
from mcp_types import Implementation

from windlass.testing.asked import callbacks
from windlass.testing.calling import Called, Wire

__all__ = ["HandedOffClient", "HeldClient", "connect_handed_off", "connect_held"]

_NEXT_STEP = re.compile(r'task_wait with \{"task_id": "([\w-]+)"\}')


class HeldClient:
    """Waits for the answer of its call, however long it takes, and is shown progress meanwhile."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.called = Called()
        self._client: Client | None = None

    async def call(self, tool: str, /, **arguments: Any) -> Called:
        """Call a tool; progress is in `seen` as ("progress", words)."""
        called = self.called = Called(questions=self._wire.answerer.asked)

        async def show(progress: float, total: float | None, message: str | None) -> None:
            called.saw("progress", message)

        assert self._client is not None
        called.result = await self._client.call_tool(tool, arguments, progress_callback=show)
        return called


class HandedOffClient:
    """Calls like a model: a reply that names a task is followed with `task_wait` until the result is there."""

    def __init__(self) -> None:
        self.called = Called()
        self._client: Client | None = None

    async def call(self, tool: str, /, **arguments: Any) -> Called:
        """Call a tool and follow it; each reply on the way is in `seen` as ("handed_off", text)."""
        called = self.called = Called()
        assert self._client is not None
        called.result = await self._client.call_tool(tool, arguments)
        while (named := _NEXT_STEP.search(called.text)) is not None:
            called.task_id = named[1]
            called.saw("handed_off", called.text)
            called.result = await self._client.call_tool("task_wait", {"task_id": named[1]})
        return called

    async def use(self, tool: str, /, **arguments: Any) -> Called:
        """Call one tool and nothing more: `task_status`, `task_answer`, ..."""
        assert self._client is not None
        return Called(result=await self._client.call_tool(tool, arguments))


@asynccontextmanager
async def connect_held(wire: Wire) -> AsyncIterator[HeldClient]:
    """The client, connected."""
    made = HeldClient(wire)
    made._client = Client(
        wire.transport(),
        mode="legacy",
        client_info=Implementation(name="windlass.testing", version="held"),
        **callbacks(wire.answerer),
        cache=None,
    )
    async with made._client:
        yield made


@asynccontextmanager
async def connect_handed_off(wire: Wire) -> AsyncIterator[HandedOffClient]:
    """The client, connected. It sends no progress token, and cannot be asked."""
    made = HandedOffClient()
    info = Implementation(name="windlass.testing", version="handed-off")
    made._client = Client(wire.transport(), mode="legacy", client_info=info, cache=None)
    async with made._client:
        yield made
