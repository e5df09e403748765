"""A client of protocol 2026-07-28 with the tasks extension: polls, answers, and takes the result from the task."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from mcp.client import Client
from mcp.client.session import ClientSession
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, CallToolResult

from taskmill.server.protocol.tasks_client import Task, TasksClientExtension, cancel_task, get_task, update_task
from taskmill.testing.client_types import CallRecord, Endpoint
from taskmill.testing.sdk_client import sdk_client

__all__ = ["Tasks2026Client", "connect_2026"]

_POLL = 0.01


class _BecameTask(Exception):
    """The call became a task, and the test does not wait for it."""

    def __init__(self, task_id: str) -> None:
        super().__init__(task_id)
        self.task_id = task_id


class Tasks2026Client:
    """Follows a call by polling its task."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.called = CallRecord()
        self._stops_at_task = False
        self._client: Client | None = None

    @property
    def session(self) -> ClientSession:
        """The SDK's session, for requests of a test's own."""
        assert self._client is not None
        return self._client.session

    async def call(self, tool: str, /, **arguments: Any) -> CallRecord:
        """Call a tool and follow it to its result."""
        called = self.called = CallRecord(questions=self._endpoint.answerer.asked)
        assert self._client is not None
        called.result = await self._client.call_tool(tool, arguments)
        return called

    async def begin(self, tool: str, /, **arguments: Any) -> str:
        """Call a tool, and return once it is a task; the task's id."""
        self._stops_at_task = True
        try:
            called = await self.call(tool, **arguments)
        except _BecameTask as became:
            return became.task_id
        finally:
            self._stops_at_task = False
        raise AssertionError(f"{tool} answered without a task: {called.text}")

    async def follow(self, task_id: str) -> CallRecord:
        """Follow a task to its end."""
        called = self.called = CallRecord(task_id=task_id, questions=self._endpoint.answerer.asked)
        called.result = await self._finish(called)
        return called

    async def cancel(self, task_id: str) -> None:
        """Cancel a task."""
        await cancel_task(self.session, task_id)

    async def _resolve(self, _session: ClientSession, task_id: str) -> CallToolResult:
        self.called.task_id = task_id
        if self._stops_at_task:
            raise _BecameTask(task_id)
        return await self._finish(self.called)

    async def _finish(self, called: CallRecord) -> CallToolResult:
        assert called.task_id is not None
        while True:
            task = await get_task(self.session, called.task_id)
            called.record_update(task.status, task.status_message)
            if task.status == "input_required" and task.input_requests:
                answers = {key: self._endpoint.answerer(asked) for key, asked in task.input_requests.items()}
                await update_task(self.session, called.task_id, answers)
            elif task.status in ("completed", "failed", "cancelled"):
                return _result_of(task)
            else:
                await anyio.sleep(_POLL)


def _result_of(task: Task) -> CallToolResult:
    if task.result is not None:
        return CallToolResult.model_validate(task.result, by_name=False)
    error = task.error or {"code": INTERNAL_ERROR, "message": task.status_message or task.status}
    raise MCPError(error["code"], error["message"], error.get("data"))


@asynccontextmanager
async def connect_2026(endpoint: Endpoint) -> AsyncIterator[Tasks2026Client]:
    """The client, connected."""
    made = Tasks2026Client(endpoint)
    extension = TasksClientExtension(made._resolve, lambda: None)
    made._client = sdk_client(endpoint, mode="2026-07-28", extensions=[extension])
    async with made._client:
        yield made
