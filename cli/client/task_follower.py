"""Follows one task to its end: polls it, wakes early when a change is announced, has its questions answered."""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from mcp.client.session import ClientSession
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CONNECTION_CLOSED,
    REQUEST_TIMEOUT,
    CallToolResult,
    ElicitRequest,
    ElicitRequestParams,
    ElicitResult,
    TextContent,
)
from pydantic import ValidationError

from taskmill.cli.client.tasks_extension import Task, get_task, listen_to, update_task
from taskmill.cli.errors import Failure, Reported
from taskmill.cli.terminal.progress import Display

__all__ = ["Follower", "failed_result", "is_passing"]

_TERMINAL = {"completed", "failed", "cancelled"}
_SHORTEST, _LONGEST = 0.1, 1.0
"""Seconds between two polls, whatever the server advises: a bar should move."""
_LATER = {CONNECTION_CLOSED, REQUEST_TIMEOUT}

Asker = Callable[[ElicitRequestParams], Awaitable[ElicitResult]]


class Follower:
    """Follows tasks; `ask` answers their questions, None = nobody can be asked."""

    def __init__(self, display: Display, ask: Asker | None) -> None:
        self._display = display
        self._ask = ask
        self._changed = anyio.Event()
        self._answered: set[str] = set()

    def noticed(self) -> None:
        """The server says that something has changed."""
        self._changed.set()

    async def follow(self, session: ClientSession, task_id: str) -> CallToolResult:
        """The result of the task; one with `is_error` if it failed or was cancelled.

        Raises:
            Reported: the server refused; the task may go on.
        """
        async with anyio.create_task_group() as group:
            group.start_soon(self._listen, session, task_id)
            while True:
                self._changed = anyio.Event()
                task = await self._look(session, task_id)
                if task is not None:
                    if task.status in _TERMINAL:
                        group.cancel_scope.cancel()
                        return _result(task)
                    self._display.show(task.status_message or task.status)
                    await self._answer(session, task)
                await self._pause(task)
        raise AssertionError("the loop ends by returning")

    async def _look(self, session: ClientSession, task_id: str) -> Task | None:
        """The task, None when the server asks to come back later."""
        try:
            return await get_task(session, task_id)
        except MCPError as exc:
            if not is_passing(exc):
                raise Reported(Failure(exc.error.message, 1)) from exc
            self._display.show("the server cannot be reached, or cannot reach its store; trying again")
            return None

    async def _pause(self, task: Task | None) -> None:
        advised = (task.poll_interval_ms if task and task.poll_interval_ms else 1000) / 1000
        await anyio.sleep(_SHORTEST)
        with anyio.move_on_after(min(_LONGEST, max(_SHORTEST, advised)) - _SHORTEST):
            await self._changed.wait()

    async def _listen(self, session: ClientSession, task_id: str) -> None:
        """Have changes announced. Polling goes on regardless, so a server without announcements is only slower."""
        while True:
            try:
                await listen_to(session, task_id)
            except MCPError:
                pass
            await anyio.sleep(_LONGEST)

    async def _answer(self, session: ClientSession, task: Task) -> None:
        """Ask what is open; a key is never used twice, so one that was answered is only not taken note of yet."""
        for key, asked in (task.input_requests or {}).items():
            if key in self._answered:
                continue
            question = _question(asked)
            if question is None or self._ask is None:
                words = (
                    question.message if question else f"it asks for {asked.get('method')}, which needs another client"
                )
                self._display.show(f"waiting for an answer that cannot be given here: {words}")
                continue
            self._display.pause()
            answer = await self._ask(question)
            wire = answer.model_dump(by_alias=True, mode="json", exclude_none=True)
            try:
                await update_task(session, task.task_id, {key: wire})
            except MCPError as exc:
                self._display.note(f"The answer was not taken: {exc.error.message}")
            else:
                self._answered.add(key)


def _question(asked: dict[str, Any]) -> ElicitRequestParams | None:
    try:
        return ElicitRequest.model_validate(asked, by_name=False).params
    except ValidationError:
        return None


def is_passing(exc: MCPError) -> bool:
    """Whether the same request may succeed later."""
    data = exc.error.data
    return exc.error.code in _LATER or (isinstance(data, dict) and bool(data.get("retryable")))


def _result(task: Task) -> CallToolResult:
    if task.status == "completed":
        return CallToolResult.model_validate(task.result or {}, by_name=False)
    if task.status == "failed":
        return failed_result(str((task.error or {}).get("message") or task.status_message or "The task failed."))
    return failed_result("The task was cancelled.")


def failed_result(text: str) -> CallToolResult:
    """A result that says that there is none."""
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)
