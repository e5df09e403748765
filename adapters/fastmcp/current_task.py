"""The task that a tool of a FastMCP server runs in: `task: Task = CurrentTask()`, and what FastMCP's `Context` lacks.

Progress, questions and logs go by FastMCP's own `Context`.
"""

from collections.abc import AsyncIterable, Callable
from contextvars import ContextVar
from os import PathLike
from typing import Any

from fastmcp.dependencies import Depends
from mcp_types import ClientCapabilities, ResourceLink

from taskmill.engine.context import TaskContext
from taskmill.engine.errors import NotInTask
from taskmill.engine.steps import as_json, not_inside, run_step
from taskmill.server.context.attachments import attach
from taskmill.server.protocol.questions import check_can_ask

__all__ = ["CurrentTask", "Task", "current_attempt", "current_client"]

current_attempt: ContextVar[TaskContext | None] = ContextVar("taskmill_attempt", default=None)
"""The attempt that the code around runs in, None outside of workers."""
current_client: ContextVar[ClientCapabilities | None] = ContextVar("taskmill_client", default=None)
"""What the client of that attempt can be asked."""


class Task:
    """The task of a call. In a call that is no task, its facts are None, and `step` just runs."""

    def __init__(self, attempt: TaskContext | None, client: ClientCapabilities | None = None) -> None:
        self._attempt = attempt
        self._client = client
        self._state: dict[str, Any] = {}

    @property
    def id(self) -> str | None:
        """Id of the task."""
        return self._attempt.task_id if self._attempt else None

    @property
    def idempotency_key(self) -> str | None:
        """The same for every attempt of the task: give it to outside systems so that an effect counts once."""
        return self.id

    @property
    def attempt(self) -> int:
        """1 for the first start."""
        return self._attempt.attempt if self._attempt else 1

    @property
    def fence(self) -> int | None:
        """Rises with every attempt: an outside system that remembers the highest can refuse older ones."""
        return self._attempt.fence if self._attempt else None

    @property
    def cancelled(self) -> bool:
        """True once the tool should stop: a plain `def` tool has to read it, an async one is cancelled."""
        return self._attempt.cancelled if self._attempt else False

    @property
    def state(self) -> dict[str, Any]:
        """Small JSON, saved with each step and question, and by `save`; later attempts begin with what was saved."""
        return self._attempt.journal.state if self._attempt else self._state

    async def save(self) -> None:
        """Save `state` now, if it has changed.

        Raises:
            NotSerializable, TooLargeToStore: it cannot be saved.
        """
        if self._attempt is not None:
            await self._attempt.journal.save()

    async def step(self, name: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The result of `call(*args, **kwargs)`, run once in a task: later attempts are given what it returned.

        An async function runs on the loop, a plain one in a thread. The result must be JSON. A step that raises is not
        kept.

        Raises:
            StepMismatch: the task's record has another step, or a question, at this point.
            StepMisused: it is called inside another step.
            NotSerializable, TooLargeToStore: the result cannot be kept.
        """
        if self._attempt is not None:
            return await self._attempt.journal.step(name, call, *args, **kwargs)
        not_inside(f"Step {name!r}")
        return as_json(await run_step(name, call, args, kwargs), what=f"The result of step {name!r}")

    async def emit(self, chunk: Any) -> None:
        """Put out a piece of the result - text, or any JSON value - that can be read while the task runs.

        It is stored when this returns. Outside of a task no one could read it, so it is dropped.

        Raises:
            ChunkRefused: too large, or not JSON.
            AttemptEnded: the tool has already returned.
        """
        if self._attempt is not None:
            await self._attempt.emit(chunk)

    async def attach(
        self,
        source: str | PathLike[str] | AsyncIterable[bytes],
        *,
        name: str | None = None,
        mime_type: str | None = None,
    ) -> ResourceLink:
        """Keep a file, or a stream of bytes, for as long as the task is kept; return the link, or put it in a result.

        `name` defaults to the path's last part, `mime_type` to what the name suggests. Any size is allowed.

        Raises:
            NotInTask: the tool was not called as a task.
            AttemptEnded: the tool has already returned.
            ArtifactTooLarge: more bytes than the installation keeps.
            ArtifactsUnavailable: the directory or bucket cannot be written.
        """
        if self._attempt is None:
            raise NotInTask("attach works in a task: here nobody keeps the file.")
        return await attach(self._attempt, source, name, mime_type)

    async def ask(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Send protocol requests (`elicitation/create`, ...) to the client; the results, in the same order.

        For one question to the user, `ctx.elicit` is shorter.

        Raises:
            NotInTask: the tool was not called as a task.
            MCPError: the client did not declare what a request needs (-32021).
            QuestionMismatch: an earlier attempt asked something else at this point.
        """
        if self._attempt is None:
            raise NotInTask("ask works in a task: here use ctx.elicit.")
        check_can_ask(self._client, requests)
        return await self._attempt.ask(requests)


def CurrentTask() -> Task:
    """The default of a tool's parameter, which clients do not see: `async def build(task: Task = CurrentTask())`."""
    return Depends(_current)


def _current() -> Task:
    return Task(current_attempt.get(), current_client.get())
