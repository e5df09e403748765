"""The task that a tool of a FastMCP server runs in: `task: Task = CurrentTask()`, and what FastMCP's `Context` lacks.

Progress, questions and logs go by FastMCP's own `Context`.
"""

from contextvars import ContextVar
from typing import Any, Protocol

from fastmcp.dependencies import Depends
from fastmcp.exceptions import ToolError
from fastmcp.server.context import Context
from fastmcp.server.dependencies import get_context
from mcp_types import ClientCapabilities

from taskmill.adapters.fastmcp.fastmcp_private import sdk_request, tasks_extension_of
from taskmill.engine.context import CallerStatePort, TaskContext
from taskmill.engine.errors import NotInTask, StateUnavailable
from taskmill.server.context.client_models import ClientModel, ClientOfCall, ClientOfTask, NoClient
from taskmill.server.context.sampling_members import SamplingMembers
from taskmill.server.protocol.questions import check_can_ask
from taskmill.server.sampling.own_model import OwnModel
from taskmill.server.tools.runtime import ServerRuntime

__all__ = ["CurrentTask", "Task", "current_attempt", "current_client", "current_models", "serving_tasks"]

current_attempt: ContextVar[TaskContext | None] = ContextVar("taskmill_attempt", default=None)
"""The attempt that the code around runs in, None outside of workers."""
serving_tasks: ContextVar["ServingTasks | None"] = ContextVar("taskmill_tasks", default=None)
"""The extension of the server whose call the code around serves; a mounted server has none of its own."""
current_models: ContextVar[tuple[OwnModel, ClientModel] | None] = ContextVar("taskmill_models", default=None)
"""The server's own model, and that attempt's client's."""


class ServingTasks(Protocol):
    """What a call outside of a task needs of the extension that serves it."""

    runtime: ServerRuntime
    own_model: OwnModel


class Task(SamplingMembers):
    """The task of a call. In a call that is no task, its facts are None, and `step` just runs."""

    _shown_errors = (ToolError,)

    def __init__(self, attempt: TaskContext | None, models: tuple[OwnModel, ClientModel] | None = None) -> None:
        self._task = attempt
        self._known_models = models
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
        check_can_ask(current_client(), requests)
        return await self._task.ask(requests)

    def _caller_state(self) -> CallerStatePort:
        if self._task is not None:
            return self._task.caller_state
        tasks, context = _serving()
        if tasks is None:
            raise StateUnavailable("Values are kept for the callers of a server that Taskmill serves.")
        return tasks.runtime.caller_state(None if context is None else sdk_request(context))

    def _models(self) -> tuple[OwnModel, ClientModel]:
        if self._known_models is not None:
            return self._known_models
        tasks, context = _serving()
        request = None if context is None else context.request_context
        if context is None or request is None:
            return OwnModel(None, None), NoClient()
        own = OwnModel(None, None) if tasks is None else tasks.own_model
        return own, ClientOfCall(context.session, request.protocol_version)


def _serving() -> tuple["ServingTasks | None", Context | None]:
    """The extension that serves the call around, and the call's context."""
    try:
        context = get_context()
    except RuntimeError:
        return serving_tasks.get(), None
    found: Any = tasks_extension_of(context.fastmcp)
    known = found if hasattr(found, "own_model") else None  # FastMCP's own extension has none
    return serving_tasks.get() or known, context


def current_client() -> ClientCapabilities | None:
    """What the client of the attempt can be asked that the code around runs in."""
    models = current_models.get()
    return models[1].capabilities if models is not None and isinstance(models[1], ClientOfTask) else None


def CurrentTask() -> Task:
    """The default of a tool's parameter, which clients do not see: `async def build(task: Task = CurrentTask())`."""
    return Depends(_current)


def _current() -> Task:
    return Task(current_attempt.get(), current_models.get())
