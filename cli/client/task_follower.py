"""Follows one task to its end: polls it, polls at once after a notification, and has its questions answered."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
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
)
from pydantic import ValidationError

from taskmill.cli.errors import CommandFailed, Failure
from taskmill.cli.terminal.progress import Display
from taskmill.server.protocol.results import error_result
from taskmill.server.protocol.tasks_client import Task, get_task, listen_to, update_task

__all__ = ["TaskFollower", "is_temporary"]

_TERMINAL = {"completed", "failed", "cancelled"}
_MIN_POLL, _MAX_POLL = 0.1, 1.0
"""Seconds between two polls, whatever the server advises: a progress bar should move."""
_TEMPORARY_CODES = {CONNECTION_CLOSED, REQUEST_TIMEOUT}

AskPerson = Callable[[ElicitRequestParams], Awaitable[ElicitResult]]


class TaskFollower:
    """Follows tasks; `ask` answers their questions, None = there is no one to ask."""

    def __init__(self, display: Display, ask: AskPerson | None) -> None:
        self._display = display
        self._ask = ask
        self._changed = anyio.Event()
        self._answered: set[str] = set()

    def task_changed(self) -> None:
        """The server sent a notification: a task has changed."""
        self._changed.set()

    async def follow(self, session: ClientSession, task_id: str) -> CallToolResult:
        """The result of the task; one with `is_error` if it failed or was cancelled.

        Raises:
            CommandFailed: the server refused; the task may still run.
        """
        async with anyio.create_task_group() as group:
            group.start_soon(self._listen, session, task_id)
            while True:
                self._changed = anyio.Event()
                task = await self._get(session, task_id)
                if task is not None:
                    if task.status in _TERMINAL:
                        group.cancel_scope.cancel()
                        return _result(task)
                    self._display.show(task.status_message or task.status)
                    await self._answer(session, task)
                await self._wait(task)
        raise AssertionError("the loop ends by returning")

    async def wait_for_end(self, session: ClientSession, task_id: str) -> None:
        """Return when the task has ended. Nothing is shown and no question is asked meanwhile."""
        while True:
            with suppress(MCPError):
                if (await get_task(session, task_id)).status in _TERMINAL:
                    return
            await anyio.sleep(_MAX_POLL)

    async def _get(self, session: ClientSession, task_id: str) -> Task | None:
        """The task, None if the server cannot answer now."""
        try:
            return await get_task(session, task_id)
        except MCPError as exc:
            if not is_temporary(exc):
                raise CommandFailed(Failure(exc.error.message, 1)) from exc
            self._display.show("the server cannot be reached, or cannot reach its store; trying again")
            return None

    async def _wait(self, task: Task | None) -> None:
        advised = (task.poll_interval_ms if task and task.poll_interval_ms else 1000) / 1000
        await anyio.sleep(_MIN_POLL)
        with anyio.move_on_after(min(_MAX_POLL, max(_MIN_POLL, advised)) - _MIN_POLL):
            await self._changed.wait()

    async def _listen(self, session: ClientSession, task_id: str) -> None:
        """Subscribe to changes. Polling continues all the same, so a server without subscriptions is only slower."""
        while True:
            try:
                await listen_to(session, task_id)
            except MCPError:
                pass
            await anyio.sleep(_MAX_POLL)

    async def _answer(self, session: ClientSession, task: Task) -> None:
        """Ask the open questions. Keys are never reused: an answered key that is still open is not processed yet."""
        for key, request in (task.input_requests or {}).items():
            if key in self._answered:
                continue
            question = _question(request)
            if question is None or self._ask is None:
                text = (
                    question.message if question else f"it asks for {request.get('method')}, which needs another client"
                )
                self._display.show(f"waiting for an answer that cannot be given here: {text}")
                continue
            self._display.pause()
            answer = await self._ask(question)
            answer_json = answer.model_dump(by_alias=True, mode="json", exclude_none=True)
            try:
                await update_task(session, task.task_id, {key: answer_json})
            except MCPError as exc:
                self._display.print_line(f"The server refused the answer: {exc.error.message}")
            else:
                self._answered.add(key)


def _question(request: dict[str, Any]) -> ElicitRequestParams | None:
    try:
        return ElicitRequest.model_validate(request, by_name=False).params
    except ValidationError:
        return None


def is_temporary(exc: MCPError) -> bool:
    """Whether the same request may succeed later."""
    data = exc.error.data
    return exc.error.code in _TEMPORARY_CODES or (isinstance(data, dict) and bool(data.get("retryable")))


def _result(task: Task) -> CallToolResult:
    if task.status == "completed":
        return CallToolResult.model_validate(task.result or {}, by_name=False)
    if task.status == "failed":
        return error_result(str((task.error or {}).get("message") or task.status_message or "The task failed."))
    return error_result("The task was cancelled.")
