"""The task that a tool of a FastMCP server runs in: `task: Task = CurrentTask()`, and what FastMCP's `Context` lacks.

Progress, questions and logs go by FastMCP's own `Context`.
"""

from contextvars import ContextVar
from typing import Any

from fastmcp.dependencies import Depends
from mcp_types import ClientCapabilities

from taskmill.engine.context import TaskContext
from taskmill.engine.errors import NotInTask
from taskmill.server.context.task_members import TaskMembers
from taskmill.server.protocol.questions import check_can_ask

__all__ = ["CurrentTask", "Task", "current_attempt", "current_client"]

current_attempt: ContextVar[TaskContext | None] = ContextVar("taskmill_attempt", default=None)
"""The attempt that the code around runs in, None outside of workers."""
current_client: ContextVar[ClientCapabilities | None] = ContextVar("taskmill_client", default=None)
"""What the client of that attempt can be asked."""


class Task(TaskMembers):
    """The task of a call. In a call that is no task, its facts are None, and `step` just runs."""

    def __init__(self, attempt: TaskContext | None, client: ClientCapabilities | None = None) -> None:
        self._task = attempt
        self._client = client
        self._state: dict[str, Any] = {}

    @property
    def id(self) -> str | None:
        """Id of the task."""
        return self._task.task_id if self._task else None

    @property
    def state(self) -> dict[str, Any]:
        """Small JSON, saved with each step and question, and by `save`; later attempts begin with what was saved."""
        return self._task.journal.state if self._task else self._state

    async def ask(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Send protocol requests (`elicitation/create`, ...) to the client; the results, in the same order.

        For one question to the user, `ctx.elicit` is shorter.

        Raises:
            NotInTask: the tool was not called as a task.
            MCPError: the client did not declare what a request needs (-32021).
            QuestionMismatch: an earlier attempt asked something else at this point.
        """
        if self._task is None:
            raise NotInTask("ask works in a task: here use ctx.elicit.")
        check_can_ask(self._client, requests)
        return await self._task.ask(requests)


def CurrentTask() -> Task:
    """The default of a tool's parameter, which clients do not see: `async def build(task: Task = CurrentTask())`."""
    return Depends(_current)


def _current() -> Task:
    return Task(current_attempt.get(), current_client.get())
