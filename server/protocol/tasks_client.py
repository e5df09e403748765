"""The tasks extension for the official client, which the SDK does not have. Requests and shapes only.

What to do with a task - follow, cancel or leave it - is decided by those who call it: `cli/client`, `adapters/remote`.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from mcp.client.extension import ClaimContext, ClientExtension, NotificationBinding, ResultClaim
from mcp.client.session import ClientSession
from mcp_types import (
    CallToolResult,
    Request,
    RequestParams,
    Result,
    SubscriptionFilter,
    SubscriptionsListenRequest,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
)
from pydantic import BaseModel, ConfigDict

from taskmill.server.protocol.shapes_2026 import EXTENSION

__all__ = ["CreatedTask", "Task", "TasksClientExtension", "cancel_task", "get_task", "listen_to", "update_task"]

_REPLY_TIMEOUT = 30.0
"""Seconds that a reply may take; the server answers all of these requests at once."""


class Task(Result):
    """`DetailedTask`: the fields that are used here."""

    model_config = ConfigDict(extra="allow")

    task_id: str
    status: str
    status_message: str | None = None
    poll_interval_ms: int | None = None
    input_requests: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


class CreatedTask(Result):
    """`CreateTaskResult`: the call became a task."""

    model_config = ConfigDict(extra="allow")

    result_type: Literal["task"]
    task_id: str


class _Acknowledged(Result):
    model_config = ConfigDict(extra="allow")


class _TaskParams(RequestParams):
    task_id: str
    input_responses: dict[str, Any] | None = None


class _TaskRequest(Request[_TaskParams, str]):
    name_param: ClassVar[str | None] = "taskId"  # goes into the Mcp-Name header


class _ChangedTask(BaseModel):
    model_config = ConfigDict(extra="allow")


class TasksClientExtension(ClientExtension):
    """Declares that this client follows tasks. `follow` finishes a call that became one; `noticed`: one has changed."""

    identifier = EXTENSION

    def __init__(
        self, follow: Callable[[ClientSession, str], Awaitable[CallToolResult]], task_changed: Callable[[], None]
    ) -> None:
        self._follow = follow
        self._task_changed = task_changed

    def claims(self) -> Sequence[ResultClaim[Any]]:
        """Calls may become tasks."""
        return [ResultClaim(result_type="task", model=CreatedTask, resolve=self._resolve)]

    def notifications(self) -> Sequence[NotificationBinding[Any]]:
        """Changes of tasks that this client has subscribed to."""
        return [
            NotificationBinding(method="notifications/tasks", params_type=_ChangedTask, handler=self._on_notification)
        ]

    async def _resolve(self, created: CreatedTask, context: ClaimContext) -> CallToolResult:
        return await self._follow(context.session, created.task_id)

    async def _on_notification(self, _notification: _ChangedTask) -> None:
        self._task_changed()


async def get_task(session: ClientSession, task_id: str) -> Task:
    """The task as it is now.

    Raises:
        MCPError: the server refused or failed.
    """
    request = _TaskRequest(method="tasks/get", params=_TaskParams(task_id=task_id))
    return await session.send_request(request, Task, request_read_timeout_seconds=_REPLY_TIMEOUT)


async def update_task(session: ClientSession, task_id: str, answers: Mapping[str, Any]) -> None:
    """Answer questions of a task, by key."""
    params = _TaskParams(task_id=task_id, input_responses=dict(answers))
    await session.send_request(
        _TaskRequest(method="tasks/update", params=params), _Acknowledged, request_read_timeout_seconds=_REPLY_TIMEOUT
    )


async def cancel_task(session: ClientSession, task_id: str) -> None:
    """Cancel a task."""
    request = _TaskRequest(method="tasks/cancel", params=_TaskParams(task_id=task_id))
    await session.send_request(request, _Acknowledged, request_read_timeout_seconds=_REPLY_TIMEOUT)


async def listen_to(session: ClientSession, task_id: str) -> None:
    """Subscribe to a task's changes while this runs; returns when the server ends the stream.

    Raises:
        MCPError: the stream broke, or the server has no subscriptions.
    """
    subscription = SubscriptionFilter.model_validate({"taskIds": [task_id]})
    request = SubscriptionsListenRequest(params=SubscriptionsListenRequestParams(notifications=subscription))
    await session.send_request(request, SubscriptionsListenResult)
