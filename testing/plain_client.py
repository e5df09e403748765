"""Clients without tasks: one whose call is held open with progress, and one whose call is handed off before the end."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp.client import Client
from mcp_types import Implementation

from taskmill.testing.client_types import CallRecord, Endpoint
from taskmill.testing.handoff_text import questions_in
from taskmill.testing.sdk_client import sdk_client

__all__ = ["HandedOffClient", "HeldClient", "connect_handed_off", "connect_held"]

_NEXT_STEP = re.compile(r'task_wait with \{"task_id": "([\w-]+)"\}')


class HeldClient:
    """Waits for the answer of its call, however long it takes, and receives progress meanwhile."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.called = CallRecord()
        self._client: Client | None = None

    async def call(self, tool: str, /, **arguments: Any) -> CallRecord:
        """Call a tool; progress is in `seen` as ("progress", message)."""
        called = self.called = CallRecord(questions=self._endpoint.answerer.asked)

        async def show(progress: float, total: float | None, message: str | None) -> None:
            called.record_update("progress", message)

        assert self._client is not None
        called.result = await self._client.call_tool(tool, arguments, progress_callback=show)
        return called


class HandedOffClient:
    """Calls like a model: a reply that names a task is followed with `task_wait` until the result is there, and
    questions are answered with `task_answer`.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self.called = CallRecord()
        self._client: Client | None = None

    async def call(self, tool: str, /, **arguments: Any) -> CallRecord:
        """Call a tool and follow it; each reply on the way is in `seen` as ("handed_off", text)."""
        called = self.called = CallRecord(questions=self._endpoint.answerer.asked)
        assert self._client is not None
        called.result = await self._client.call_tool(tool, arguments)
        while (task_id := await self._task_in(called.text)) is not None:
            called.task_id = task_id
            called.record_update("handed_off", called.text)
            called.result = await self._client.call_tool("task_wait", {"task_id": task_id})
        return called

    async def use(self, tool: str, /, **arguments: Any) -> CallRecord:
        """Call one tool and nothing more: `task_status`, `task_answer`, ..."""
        assert self._client is not None
        return CallRecord(result=await self._client.call_tool(tool, arguments))

    async def _task_in(self, text: str) -> str | None:
        """The task that a reply names, None if it is a result; its questions are answered."""
        if (asking := questions_in(text)) is None:
            named = _NEXT_STEP.search(text)
            return named[1] if named else None
        task_id, questions = asking
        for key, question in questions.items():
            answer = self._endpoint.answerer(question)
            taken = await self.use("task_answer", task_id=task_id, key=key, answer=answer)
            assert taken.result is not None
            assert not taken.result.is_error, taken.text
        return task_id


@asynccontextmanager
async def connect_held(endpoint: Endpoint) -> AsyncIterator[HeldClient]:
    """The client, connected."""
    made = HeldClient(endpoint)
    info = Implementation(name="taskmill.testing", version="held")
    made._client = sdk_client(endpoint, mode="legacy", client_info=info)
    async with made._client:
        yield made


@asynccontextmanager
async def connect_handed_off(endpoint: Endpoint) -> AsyncIterator[HandedOffClient]:
    """The client, connected. It sends no progress token, and can be asked only in the text of a reply."""
    made = HandedOffClient(endpoint)
    info = Implementation(name="taskmill.testing", version="handed-off")
    made._client = Client(endpoint.transport(), mode="legacy", client_info=info, cache=None)
    async with made._client:
        yield made
