"""The tasks extension of protocol revision 2026-07-28: task handles for tools/call, and tasks/get, update, cancel.

Source: `ext-tasks` specification; sections are named where they force something.
"""

from collections.abc import Callable, Sequence
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp_types import CallToolRequestParams, RequestParams
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import Field

from windlass.engine.record import TaskView
from windlass.server.answers import fitting_answers
from windlass.server.call_keys import is_shared
from windlass.server.classify import ClientClass, classify, require_tasks
from windlass.server.context import Context
from windlass.server.desk import Desk
from windlass.server.faults import header_mismatch, method_not_found, wire_errors
from windlass.server.hold import hold
from windlass.server.owner import owner
from windlass.server.wire import EXTENSION, create_result, detailed_task

__all__ = ["TasksExtension"]

_VERSIONS = frozenset(MODERN_PROTOCOL_VERSIONS)
_LONGEST_ID = 256
ContextMaker = Callable[[ServerRequestContext[Any, Any], CallToolRequestParams], Context[Any, Any]]


class _TaskParams(RequestParams):
    task_id: str = Field(max_length=_LONGEST_ID)


class _UpdateParams(_TaskParams):
    input_responses: dict[str, Any]


class TasksExtension(Extension):
    """What the server adds for clients that declare the extension; other clients' calls it sends to `hold`."""

    identifier = EXTENSION

    def __init__(self, desk: Desk, make_context: ContextMaker) -> None:
        self._desk = desk
        self._make_context = make_context

    def methods(self) -> Sequence[MethodBinding]:
        """The three methods; `tasks/result` and `tasks/list` are not part of this revision."""
        return (
            MethodBinding("tasks/get", _TaskParams, self._get, _VERSIONS),
            MethodBinding("tasks/update", _UpdateParams, self._update, _VERSIONS),
            MethodBinding("tasks/cancel", _TaskParams, self._cancel, _VERSIONS),
        )

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Answer a call of a task tool with a handle, once any replica can read the task."""
        entry = self._desk.find(params.name)
        if entry is None:
            return await call_next(ctx)
        client = classify(ctx)
        if entry.policy.mode == "required":
            if client is ClientClass.PLAIN:
                require_tasks(ctx)
            if client is ClientClass.LEGACY:
                raise method_not_found(f"{params.name} runs only as a task, which this connection cannot follow.")
        submitted = await self._desk.submit(entry, params, ctx, self._make_context(ctx, params))
        if not isinstance(submitted, TaskView):
            return submitted
        if client is ClientClass.TASKS:
            return create_result(submitted)
        return await hold(self._desk.store, submitted, ctx, shared=is_shared(entry.policy, params))

    async def _get(self, ctx: ServerRequestContext[Any, Any], params: _TaskParams) -> HandlerResult:
        _admit(ctx, params)
        with wire_errors():
            return detailed_task(await self._desk.store.look(params.task_id, owner()))

    async def _update(self, ctx: ServerRequestContext[Any, Any], params: _UpdateParams) -> HandlerResult:
        # "Task Update Requests": unknown and answered keys are ignored, a part of the answers is welcome.
        _admit(ctx, params)
        with wire_errors():
            view = await self._desk.store.look(params.task_id, owner())
            answers = fitting_answers(view.questions, params.input_responses)
            if answers:
                await self._desk.store.answer(params.task_id, owner(), answers)
        return {}

    async def _cancel(self, ctx: ServerRequestContext[Any, Any], params: _TaskParams) -> HandlerResult:
        # "Task Cancellation": an empty acknowledgement, also when the task has already ended.
        _admit(ctx, params)
        with wire_errors():
            await self._desk.store.cancel(params.task_id, owner(), reason="client")
        return {}


def _admit(ctx: ServerRequestContext[Any, Any], params: _TaskParams) -> None:
    """Capability first, then headers, and only then the id is looked up.

    Raises:
        MCPError: -32021, or -32020 when `Mcp-Name` is another id ("Streamable HTTP: Routing Headers").
    """
    require_tasks(ctx)
    named = getattr(ctx.request, "headers", {}).get(MCP_NAME_HEADER)
    if named is not None and decode_header_value(named) != params.task_id:
        raise header_mismatch("Mcp-Name must be the task id of the request's body.")
