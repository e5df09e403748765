"""The tasks extension of protocol revision 2026-07-28: task handles for tools/call, and tasks/get, update, cancel.

As the SDK's one interceptor of tools/call it also passes calls of clients without tasks to `calls_without_tasks.py`.

Source: `ext-tasks` specification; sections are named where they force something.
"""

from collections.abc import Sequence
from typing import Any

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp_types import CallToolRequestParams
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from taskmill.engine.record import TaskView
from taskmill.server.auth.principal import owner
from taskmill.server.handlers.calls_without_tasks import CallsWithoutTasks
from taskmill.server.protocol.client_class import ClientClass, client_class_of, require_tasks
from taskmill.server.protocol.errors import header_mismatch, method_not_found, wire_errors
from taskmill.server.protocol.request_params import TaskIdParams
from taskmill.server.protocol.shapes_2026 import EXTENSION, create_result, detailed_task
from taskmill.server.tools.answers import take_answers
from taskmill.server.tools.call_keys import refuse_delay
from taskmill.server.tools.runtime import ServerRuntime
from taskmill.server.tools.submission import Submission

__all__ = ["Tasks2026"]

_VERSIONS = frozenset(MODERN_PROTOCOL_VERSIONS)


class _UpdateParams(TaskIdParams):
    input_responses: dict[str, Any]


class Tasks2026(Extension):
    """Methods and tool results for clients that declare the extension."""

    identifier = EXTENSION

    def __init__(self, runtime: ServerRuntime, submission: Submission, plain: CallsWithoutTasks) -> None:
        self._runtime = runtime
        self._submission = submission
        self._plain = plain

    def methods(self) -> Sequence[MethodBinding]:
        """The three methods; `tasks/result` and `tasks/list` are not part of this revision."""
        return (
            MethodBinding("tasks/get", TaskIdParams, self._get, _VERSIONS),
            MethodBinding("tasks/update", _UpdateParams, self._update, _VERSIONS),
            MethodBinding("tasks/cancel", TaskIdParams, self._cancel, _VERSIONS),
        )

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """Answer a call of a task tool with a handle, once any replica can read the task."""
        tool = await self._submission.resolve(params)
        if tool is None:
            with wire_errors():
                refuse_delay(params.name, params.meta)
            return await call_next(ctx)
        if client_class_of(ctx) is ClientClass.TASKS_2026:
            submitted = await self._submission.submit(tool, params, ctx)
            return create_result(submitted) if isinstance(submitted, TaskView) else submitted
        if tool.policy.mode == "required":
            if ctx.protocol_version in MODERN_PROTOCOL_VERSIONS:
                require_tasks(ctx)
            raise method_not_found(f"{params.name} runs only as a task: call it with `task`.")
        return await self._plain.call(tool, params, ctx)

    async def _get(self, ctx: ServerRequestContext[Any, Any], params: TaskIdParams) -> HandlerResult:
        _check(ctx, params)
        with wire_errors():
            return detailed_task(await self._runtime.store.read(params.task_id, owner(ctx)))

    async def _update(self, ctx: ServerRequestContext[Any, Any], params: _UpdateParams) -> HandlerResult:
        # "Task Update Requests": unknown and answered keys are ignored, and some answers without the others are taken.
        _check(ctx, params)
        with wire_errors():
            await take_answers(self._runtime.store, params.task_id, owner(ctx), params.input_responses)
        return {}

    async def _cancel(self, ctx: ServerRequestContext[Any, Any], params: TaskIdParams) -> HandlerResult:
        # "Task Cancellation": an empty acknowledgement, also when the task has already ended.
        _check(ctx, params)
        with wire_errors():
            await self._runtime.store.cancel(params.task_id, owner(ctx), reason="client")
        return {}


def _check(ctx: ServerRequestContext[Any, Any], params: TaskIdParams) -> None:
    """Check the capability, then the headers; only after that the id is looked up.

    Raises:
        MCPError: -32021, or -32020 when `Mcp-Name` is another id ("Streamable HTTP: Routing Headers").
    """
    require_tasks(ctx)
    named = getattr(ctx.request, "headers", {}).get(MCP_NAME_HEADER)
    if named is not None and decode_header_value(named) != params.task_id:
        raise header_mismatch("Mcp-Name must be the task id of the request's body.")
