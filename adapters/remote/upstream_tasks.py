"""Tasks of a server behind Taskmill that has tasks itself, of either revision: followed by their id.

Nothing here creates one, or decides what follows when the connection ends: see `tools.py`.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from fastmcp.exceptions import ToolError
from mcp.client.session import ClientRequestContext, ClientSession
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, CallToolResult, ErrorData, InputRequest, ServerCapabilities, Tool
from pydantic import TypeAdapter

from taskmill.adapters.fastmcp.current_task import current_client
from taskmill.adapters.remote.client import UpstreamClient
from taskmill.engine.context import TaskContext
from taskmill.server.protocol.client_class import TASKS_2025
from taskmill.server.protocol.questions import check_can_ask
from taskmill.server.protocol.sdk_private import request_without_types
from taskmill.server.protocol.shapes_2026 import EXTENSION
from taskmill.server.protocol.tasks_client import Task, cancel_task, get_task, update_task

__all__ = ["UpstreamTask", "has_tasks", "runs_as_2025_task"]

_TERMINAL = {"completed", "failed", "cancelled"}
_SHORTEST_POLL, _LONGEST_POLL = 0.1, 5.0
_REQUEST: TypeAdapter[InputRequest] = TypeAdapter(InputRequest)


def has_tasks(capabilities: ServerCapabilities | None) -> bool:
    """Whether a call may become a task of this server."""
    if capabilities is None:
        return False
    return capabilities.tasks is not None or EXTENSION in (capabilities.extensions or {})


def runs_as_2025_task(tool: Tool, version: str | None, capabilities: ServerCapabilities | None) -> bool:
    """Whether a call of this tool can be a task of revision 2025-11-25."""
    if version != TASKS_2025 or capabilities is None or capabilities.tasks is None:
        return False
    requests = capabilities.tasks.requests
    offers = requests is not None and requests.tools is not None and requests.tools.call is not None
    return offers and tool.execution is not None and tool.execution.task_support in ("optional", "required")


@dataclass(frozen=True)
class UpstreamTask:
    """A task there."""

    task_id: str
    revision: Literal["2025", "2026"]

    def as_json(self) -> dict[str, str]:
        """For the record of our own task."""
        return asdict(self)

    async def follow(self, client: UpstreamClient, attempt: TaskContext | None) -> CallToolResult:
        """The result, however long it takes. Its questions become those of our task, its status the progress.

        Raises:
            MCPError: the tool's own, or the server does not know the task, or the connection has ended.
            ToolError: it was cancelled there.
        """
        answered: set[str] = set()
        shown: str | None = None
        while True:
            task = await self._get(client.session)
            if task.status in _TERMINAL or (self.revision == "2025" and task.status == "input_required"):
                return await self._result(client, task)
            if attempt is not None and task.status_message and task.status_message != shown:
                shown = task.status_message
                await attempt.report_progress(message=shown)
            fresh = {key: one for key, one in (task.input_requests or {}).items() if key not in answered}
            if fresh:
                answers = await _ask(client.session, fresh, attempt)
                await update_task(client.session, self.task_id, answers)
                answered |= set(fresh)
            advised = (task.poll_interval_ms or 1000) / 1000
            await asyncio.sleep(min(_LONGEST_POLL, max(_SHORTEST_POLL, advised)))

    async def cancel(self, session: ClientSession) -> None:
        """Cancel it.

        Raises:
            MCPError: it has ended, or the server cannot be reached.
        """
        if self.revision == "2026":
            await cancel_task(session, self.task_id)
        else:
            await request_without_types(session, "tasks/cancel", {"taskId": self.task_id})

    async def _get(self, session: ClientSession) -> Task:
        if self.revision == "2026":
            return await get_task(session, self.task_id)
        found = await request_without_types(session, "tasks/get", {"taskId": self.task_id})
        return Task.model_validate({**found, "pollIntervalMs": found.get("pollInterval")}, by_name=False)

    async def _result(self, client: UpstreamClient, task: Task) -> CallToolResult:
        if task.status == "cancelled":
            raise ToolError("The server behind this one cancelled its task of this call.")
        if self.revision == "2025":
            with client.asking_for(self.task_id):
                found = await request_without_types(client.session, "tasks/result", {"taskId": self.task_id})
            return CallToolResult.model_validate(found, by_name=False)
        if task.status == "failed":
            error = task.error or {"code": INTERNAL_ERROR, "message": task.status_message or "The task failed."}
            raise MCPError.from_error_data(ErrorData.model_validate(error))
        return CallToolResult.model_validate(task.result or {}, by_name=False)


async def _ask(
    session: ClientSession, requests: Mapping[str, dict[str, Any]], attempt: TaskContext | None
) -> dict[str, Any]:
    """The answers of the caller's client to questions of a task, by their keys."""
    if attempt is not None:
        asked = list(requests.values())
        check_can_ask(current_client(), asked)
        return dict(zip(requests, await attempt.ask(asked), strict=True))
    answers: dict[str, Any] = {}
    for key, request in requests.items():
        context = ClientRequestContext(session=session, request_id=key)
        answer = await session.dispatch_input_request(context, _REQUEST.validate_python(request, by_name=False))
        if isinstance(answer, ErrorData):
            raise MCPError.from_error_data(answer)
        answers[key] = answer.model_dump(by_alias=True, mode="json", exclude_none=True)
    return answers
