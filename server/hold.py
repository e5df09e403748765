"""Clients without tasks: the call is held open until the task ends, with progress as it happens.

The work itself is a task like any other, on a worker.
"""

from typing import Any, assert_never

import anyio
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, CallToolResult, ElicitRequest, ElicitResult, TextContent
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from windlass.engine.errors import StoreUnavailable, TaskNotFound
from windlass.engine.outcome import Broke, Refused, Returned
from windlass.engine.record import Progress, TaskView
from windlass.server.answers import fitting_answers
from windlass.server.faults import error_of, wire_errors
from windlass.server.status_text import progress_text
from windlass.store.tasks import TaskStore

__all__ = ["hold"]


async def hold(
    store: TaskStore, view: TaskView, ctx: ServerRequestContext[Any, Any], *, shared: bool = False
) -> CallToolResult:
    """Wait for the task and answer what a foreground call would have answered.

    A client of 2026-07-28 that goes away takes its task with it, unless it is `shared`: other calls may wait for the
    same task, or come back to it. Before 2026, a lost connection is not a cancel.

    Raises:
        MCPError: the tool raised one, or the task broke.
    """
    record = view.record
    try:
        with wire_errors():
            return await _Held(store, record.id, record.principal, ctx).follow()
    except anyio.get_cancelled_exc_class():
        if not shared and ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
            with anyio.CancelScope(shield=True):
                await _drop(store, record.id, record.principal, "client_gone")
        raise


async def _drop(store: TaskStore, task_id: str, principal: str, reason: str) -> None:
    try:
        await store.cancel(task_id, principal, reason=reason)
    except (StoreUnavailable, TaskNotFound):
        return  # nobody is left to tell; the task runs to its end


class _Held:
    """One held call."""

    def __init__(self, store: TaskStore, task_id: str, principal: str, ctx: ServerRequestContext[Any, Any]) -> None:
        self._store = store
        self._task_id = task_id
        self._principal = principal
        self._ctx = ctx
        self._told = Progress()

    async def follow(self) -> CallToolResult:
        async with self._store.feed.follow(self._task_id) as subscription:
            while True:
                await subscription.news()
                view = await self._look()
                await self._tell(view.record.progress)
                if view.record.is_terminal:
                    return _result(view)
                if view.questions:
                    await self._ask(view)

    async def _look(self) -> TaskView:
        while True:
            try:
                return await self._store.look(self._task_id, self._principal)
            except StoreUnavailable:
                await anyio.sleep(0.5)

    async def _tell(self, progress: Progress) -> None:
        if progress == self._told or progress.done is None:
            return
        self._told = progress
        await self._ctx.session.report_progress(progress.done, progress.total, progress_text(progress))

    async def _ask(self, view: TaskView) -> None:
        """Pass open questions to a client that can be asked in mid-call; end the task for one that cannot."""
        if not self._ctx.session.can_send_request:
            await _drop(self._store, self._task_id, self._principal, "cannot_ask")
            return
        for key, question in view.questions.items():
            request = ElicitRequest.model_validate(question, by_name=False)
            answer = await self._ctx.session.send_request(request, ElicitResult)
            given = fitting_answers(view.questions, {key: answer.model_dump(by_alias=True, mode="json")})
            await self._store.answer(self._task_id, self._principal, given)


def _result(view: TaskView) -> CallToolResult:
    match view.outcome:
        case Returned():
            return CallToolResult.model_validate(view.outcome.value, by_name=False)
        case Refused() | Broke():
            error = error_of(view.outcome)
            raise MCPError(error["code"], error["message"], error.get("data"))
        case None if view.record.reason == "cannot_ask":
            text = "This tool asks a question on the way. Use a client that supports MCP tasks or elicitation."
            return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)
        case None:
            raise MCPError(INTERNAL_ERROR, "The task was cancelled.", {"reason": "cancelled"})
        case _:
            assert_never(view.outcome)
