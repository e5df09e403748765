"""A client of protocol 2025-11-25 that makes every call a task; questions come to it while it waits for the result."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from mcp.client import Client
from mcp.client.session import ClientSession
from mcp_types import CallToolResult, Implementation

from taskmill.server.protocol.sdk_private import request_without_types
from taskmill.testing.client_types import CallRecord, Endpoint
from taskmill.testing.sdk_client import sdk_client

__all__ = ["Tasks2025Client", "connect_2025"]

_POLL = 0.01
_ENDED = ("completed", "failed", "cancelled")


class Tasks2025Client:
    """Follows a call by polling its task, and waits for the result when there is a question to answer."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.called = CallRecord()
        self._client: Client | None = None

    @property
    def session(self) -> ClientSession:
        """The SDK's session, for requests of a test's own."""
        assert self._client is not None
        return self._client.session

    async def call(self, tool: str, /, **arguments: Any) -> CallRecord:
        """Call a tool as a task and follow it to its result."""
        return await self.follow(await self.begin(tool, **arguments))

    async def begin(self, tool: str, /, **arguments: Any) -> str:
        """Call a tool as a task; the task's id."""
        reply = await self._ask("tools/call", name=tool, arguments=arguments, task={})
        return str(reply["task"]["taskId"])

    async def follow(self, task_id: str) -> CallRecord:
        """Follow a task to its end."""
        called = self.called = CallRecord(task_id=task_id, questions=self._endpoint.answerer.asked)
        while True:
            task = await self._ask("tasks/get", taskId=task_id)
            called.record_update(task["status"], task.get("statusMessage"))
            if task["status"] in _ENDED:
                break
            if task["status"] == "input_required":
                await self._ask("tasks/result", taskId=task_id)  # the questions come on its stream
            else:
                await anyio.sleep(_POLL)
        result = await self._ask("tasks/result", taskId=task_id)
        called.result = CallToolResult.model_validate(result, by_name=False)
        return called

    async def cancel(self, task_id: str) -> None:
        """Cancel a task."""
        await self._ask("tasks/cancel", taskId=task_id)

    async def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        return await request_without_types(self.session, method, params)


@asynccontextmanager
async def connect_2025(endpoint: Endpoint) -> AsyncIterator[Tasks2025Client]:
    """The client, connected."""
    made = Tasks2025Client(endpoint)
    info = Implementation(name="taskmill.testing", version="2025")
    made._client = sdk_client(endpoint, mode="legacy", client_info=info)
    async with made._client:
        yield made
