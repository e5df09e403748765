"""Tasks of protocol revision 2025-11-25: the nested handle for tools/call, and tasks/get, result, list, cancel.

A middleware: the SDK knows the methods of that revision as types only. Source: tasks 2025-11-25; sections are named
where they force something.
"""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing, suppress
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    CallToolRequestParams,
    CallToolResult,
    InputRequiredResult,
    RequestParams,
)
from pydantic import BaseModel, ConfigDict, Field

from taskmill.engine.errors import StoreUnavailable
from taskmill.engine.record import TaskView
from taskmill.server.auth.principal import list_owner, owner
from taskmill.server.handlers.calls_without_tasks import CallsWithoutTasks
from taskmill.server.handlers.log_levels import level_of
from taskmill.server.protocol.client_class import TASKS_2025, ClientClass, client_class_of
from taskmill.server.protocol.errors import method_not_found, wire_errors
from taskmill.server.protocol.request_params import TaskIdParams
from taskmill.server.protocol.sdk_private import connection_of
from taskmill.server.protocol.shapes_2025 import created, related_task, task_of
from taskmill.server.sessions.dispatch import dispatch_of
from taskmill.server.streams.notifications_2025 import task_notifications
from taskmill.server.tools.runtime import ServerRuntime
from taskmill.server.tools.submission import Submission
from taskmill.store.sessions.open_calls import CallKind

__all__ = ["Tasks2025", "keep_ms", "not_created"]

Request = ServerRequestContext[Any, Any]
_LONGEST_CURSOR = 1024
_LONGEST_TTL = 2**53
CAPABILITY: dict[str, Any] = {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}


class _ListParams(RequestParams):
    cursor: str | None = Field(None, max_length=_LONGEST_CURSOR)


class _Augmentation(BaseModel):
    """The `task` member of a call's parameters."""

    model_config = ConfigDict(extra="ignore")

    ttl: float | None = Field(None, strict=True, gt=0, le=_LONGEST_TTL)
    """Milliseconds the task may be kept; the server's limit cuts it."""


class _TaskCallParams(BaseModel):
    """What a call as a task has beside its other parameters; its errors name the whole path."""

    model_config = ConfigDict(extra="ignore")

    task: _Augmentation


class Tasks2025:
    """Server middleware: answers the requests of this revision's tasks, and passes everything else on."""

    def __init__(self, runtime: ServerRuntime, submission: Submission, plain: CallsWithoutTasks) -> None:
        self._runtime = runtime
        self._submission = submission
        self._plain = plain
        self._notifying: set[asyncio.Task[None]] = set()

    async def __call__(self, ctx: Request, call_next: CallNext) -> HandlerResult:
        """Serve one request, or pass it on."""
        if ctx.method == "initialize":
            return self._with_capability(await call_next(ctx))
        if ctx.protocol_version != TASKS_2025 or ctx.request_id is None:
            return await call_next(ctx)
        match ctx.method:
            case "tools/call" if client_class_of(ctx) is ClientClass.TASKS_2025:
                return await self.create(ctx, call_next)
            case "tasks/get":
                return await self._get(ctx)
            case "tasks/result":
                return await self._result(ctx)
            case "tasks/list":
                return await self._list(ctx)
            case "tasks/cancel":
                return await self._cancel(ctx)
            case _:
                return await call_next(ctx)

    def _with_capability(self, result: HandlerResult) -> HandlerResult:
        is_ours = isinstance(result, dict) and result.get("protocolVersion") == TASKS_2025
        if not is_ours or not isinstance(result, dict) or not self._runtime.tools.policies():
            return result
        return {**result, "capabilities": {**result["capabilities"], "tasks": CAPABILITY}}

    async def create(self, ctx: Request, call_next: CallNext) -> HandlerResult:
        """Answer a call with the handle of its task, once any replica can read it."""
        params = CallToolRequestParams.model_validate(ctx.params or {}, by_name=False)
        tool = await self._submission.resolve(params)
        if tool is None:
            # "Tool-Level Negotiation": not for a tool that does not support tasks.
            raise method_not_found(f"{params.name} does not run as a task. Call it without `task`.")
        submitted = await self._submission.submit(tool, params, ctx, keep_ms=keep_ms(ctx))
        if not isinstance(submitted, TaskView):
            raise not_created(submitted)
        return await self.handle_of(submitted, ctx)

    async def handle_of(self, view: TaskView, ctx: Request) -> HandlerResult:
        """The handle of a task that a call has created; its notifications begin."""
        await self._start_notifications(view, ctx)
        return created(view)

    async def _get(self, ctx: Request) -> HandlerResult:
        params = TaskIdParams.model_validate(ctx.params or {}, by_name=False)
        with wire_errors():
            return task_of(await self._runtime.store.read(params.task_id, owner(ctx)))

    async def _result(self, ctx: Request) -> HandlerResult:
        """Wait for the end, and ask the task's questions meanwhile ("Input Required Status")."""
        params = TaskIdParams.model_validate(ctx.params or {}, by_name=False)
        with wire_errors():
            view = await self._runtime.store.read(params.task_id, owner(ctx))
        held = await self._plain.hold(view, ctx, None, kind=CallKind.RESULT)
        if isinstance(held, BaseModel):
            held = held.model_dump(by_alias=True, mode="json", exclude_none=True)
        assert held is not None
        return {**held, "_meta": {**held.get("_meta", {}), **related_task(params.task_id)}}

    async def _list(self, ctx: Request) -> HandlerResult:
        params = _ListParams.model_validate(ctx.params or {}, by_name=False)
        who = list_owner(ctx)
        if not who:
            raise MCPError(METHOD_NOT_FOUND, "Tasks can be listed only with authentication, or within a session.")
        with wire_errors():
            page = await self._runtime.store.page(who, after=params.cursor)
        listed: dict[str, Any] = {"tasks": [task_of(view) for view in page.views]}
        if page.unreachable:
            listed["_meta"] = {"io.taskmill/unreachable": list(page.unreachable)}
        return {**listed, "nextCursor": page.next} if page.next else listed

    async def _cancel(self, ctx: Request) -> HandlerResult:
        """Cancelled before the reply; an ended task cannot be ("Task Cancellation")."""
        params = TaskIdParams.model_validate(ctx.params or {}, by_name=False)
        with wire_errors():
            cancelled = await self._runtime.store.cancel(params.task_id, owner(ctx), reason="client")
            view = await self._runtime.store.read(params.task_id, owner(ctx))
        if not cancelled:
            raise MCPError(INVALID_PARAMS, f"The task has already ended: it is {task_of(view)['status']}.")
        return task_of(view)

    async def _start_notifications(self, view: TaskView, ctx: Request) -> None:
        """Have the task's notifications sent, on the stream that the client has."""
        token = _token(ctx)
        dispatch = dispatch_of(ctx.request)
        if dispatch is not None and dispatch.session is not None:
            with suppress(StoreUnavailable):  # notifications are optional; the task is there
                await self._runtime.store.sessions.follow(dispatch.session.id, view.record.id, token)
        elif ctx.request is None:
            notifying = asyncio.create_task(self._notify(view, ctx, token), name="taskmill.notifications")
            self._notifying.add(notifying)
            notifying.add_done_callback(self._notifying.discard)
            connection_of(ctx.session).exit_stack.callback(notifying.cancel)

    async def _notify(self, view: TaskView, ctx: Request, token: str | int | None) -> None:
        outbound = connection_of(ctx.session).outbound
        record = view.record
        messages = task_notifications(
            self._runtime.store, record.principal, record.id, token, after=record.seq, lowest=level_of(ctx)
        )
        with suppress(StoreUnavailable):
            async with aclosing(messages):
                async for message in messages:
                    await outbound.notify(message["method"], message["params"])


def keep_ms(ctx: Request) -> float | None:
    """Milliseconds for which the client of a call as a task wants it kept, None = the tool's policy says it."""
    return _TaskCallParams.model_validate(ctx.params or {}).task.ttl


def not_created(result: CallToolResult | InputRequiredResult) -> MCPError:
    """The error of a call that makes no task, because its arguments cannot work; there is nothing to poll."""
    texts = [part.text for part in getattr(result, "content", ()) if part.type == "text"]
    return MCPError(INVALID_PARAMS, "\n".join(texts) or "The call cannot be made as it is.")


def _token(ctx: Request) -> str | int | None:
    meta: Mapping[str, Any] = ctx.meta or {}
    token: str | int | None = meta.get("progress_token")
    return token
