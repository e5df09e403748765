"""Turns a call of a task tool into a task: checks the call, asks what must be asked first, and stores it for a worker.

Knows no protocol revision; the handlers of the client classes call it.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import structlog
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolRequestParams, CallToolResult, InputRequiredResult
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from taskmill.engine.errors import QuotaExceeded, StoreFull
from taskmill.engine.principal import PrincipalLimits
from taskmill.engine.record import Lane, NewTask, TaskView
from taskmill.engine.timing.start_time import check_deadline
from taskmill.server.auth.principal import list_owner, owner, session_of
from taskmill.server.auth.scopes import caller_record, require_scopes
from taskmill.server.limits.large_work import is_large_request
from taskmill.server.protocol.client_class import ClientClass, client_class_of, client_info
from taskmill.server.protocol.errors import wire_errors
from taskmill.server.protocol.questions import with_tool_answers
from taskmill.server.tool_host import CallHost, HostTool
from taskmill.server.tools.call_keys import CallKeys, keys_of_call, start_of_call, wants_delay
from taskmill.server.tools.caller_mark import caller_mark, is_called_from
from taskmill.server.tools.runtime import ServerRuntime
from taskmill.server.tools.tracing import trace_of_call
from taskmill.server.tools.validation import refused_call

__all__ = ["Submission", "client_as_stored"]

Request = ServerRequestContext[Any, Any]

log = structlog.get_logger()
_HINT = (
    "a task of this queue calls the tool: when such tasks hold all slots, they wait for each other without end. Give "
    "the tool a queue of its own, TaskConfig(queue=...), or call the function itself"
)
_LONGEST_KEEP = 10 * 365 * 24 * 3600 * 1000
"""Milliseconds: the longest retention a client may ask for; the store's own limit is shorter."""


class Submission:
    """Creates the tasks of one server."""

    def __init__(self, runtime: ServerRuntime, tool_host: CallHost) -> None:
        self._runtime = runtime
        self._tool_host = tool_host
        self._warned: set[str] = set()
        """Tools that a task of their own queue has called."""

    async def resolve(self, params: CallToolRequestParams) -> HostTool | None:
        """The task tool that a call names, None if there is none that runs as a task."""
        return await self._tool_host.resolve(params.name)

    async def submit(
        self,
        tool: HostTool,
        params: CallToolRequestParams,
        ctx: Request,
        *,
        keep_ms: float | None = None,
        asks_by_tools: bool = False,
        client: Mapping[str, Any] | None = None,
    ) -> TaskView | CallToolResult | InputRequiredResult:
        """A new task; or, where there can be none, what a foreground call would have answered.

        Nothing is stored unless the arguments fit the tool's schema and, from 2026 on, every question of its
        `Resolve(...)` parameters is answered (tasks extension, "Task Creation": multi-round exchanges first).
        `keep_ms`: the retention that the client asks for, None = the policy's. `asks_by_tools`: questions can be put
        to the client's model, so that the client itself need not be able to ask its user. `client`: what is stored of
        the client, where the caller knows that already.

        Raises:
            MCPError: the store refused or failed, or a resolver needs a capability the client lacks.
        """
        runtime, policy = self._runtime, tool.policy
        if client_class_of(ctx) is not ClientClass.PLAIN:
            runtime.clients.note_call(ctx)
        caller = caller_record(over_http=runtime.serves_http or ctx.request is not None, visible=runtime.visible_claims)
        with wire_errors():
            require_scopes(tool.name, policy, caller)
        is_large = is_large_request()
        if is_large:
            await self._before_large(tool, params, ctx)
        resolves = ctx.protocol_version in MODERN_PROTOCOL_VERSIONS and (_can_elicit(ctx) or not asks_by_tools)
        arguments = await self._tool_host.validate(tool, params, ctx, resolves=resolves)
        if isinstance(arguments, CallToolResult | InputRequiredResult):
            return arguments
        who = owner(ctx)
        keys = _keys(tool, params, arguments, who)
        if not isinstance(keys, CallKeys):
            return keys
        payload = {
            **self._tool_host.carried(params, ctx),
            **_payload_of(params, ctx, client_as_stored(ctx.session, asks_by_tools) if client is None else client),
            "caller": caller,
        }
        if is_large:
            await runtime.large_work.wait(who)
        with wire_errors():
            if wants_delay(params.meta):
                keys = replace(keys, not_before_ms=await self._start(tool, params))
            return await self._create(tool, ctx, who, payload, keys, keep_ms)

    async def _before_large(self, tool: HostTool, params: CallToolRequestParams, ctx: Request) -> None:
        """Wait until the arguments of a large call may be checked.

        Raises:
            MCPError: the call would be refused in the end, whatever its arguments are.
        """
        runtime, who = self._runtime, owner(ctx)
        with wire_errors():
            try:
                runtime.creations.check(who, runtime.limits_of(who).creations)
                if tool.policy.idempotency is None:
                    runtime.full_callers.check(who, tool.policy.queue, params.arguments or {})
            except QuotaExceeded as exc:
                runtime.note_refusal(exc)
                raise
        await runtime.large_work.wait(who)

    async def _start(self, tool: HostTool, params: CallToolRequestParams) -> int | None:
        """Before when the task may not start, milliseconds since 1970; None = it may at once.

        Raises:
            BadArguments: the call does not say it properly, or its task would have to end before.
        """
        now_ms = await self._runtime.store.now_ms()
        start = start_of_call(params.meta, now_ms)
        if start is not None:
            check_deadline(start, now_ms, tool.policy.time_limit)
        return start

    async def _create(
        self, tool: HostTool, ctx: Request, who: str, payload: Mapping[str, Any], keys: CallKeys, keep_ms: float | None
    ) -> TaskView:
        runtime, policy, size = self._runtime, tool.policy, 0
        limits = runtime.limits_of(who)
        try:
            # Before the arguments are written and sent: a refused call should cost little.
            runtime.creations.take(who, limits.creations)
            if keys.idempotency is None:
                runtime.full_callers.check(who, policy.queue, payload["arguments"])
            task = self._new_task(tool, ctx, who, payload, keys, keep_ms, limits)
            size = len(task.payload)
            view = await runtime.store.create(task)
        except (QuotaExceeded, StoreFull) as exc:
            runtime.note_refusal(exc)
            if isinstance(exc, QuotaExceeded) and size:
                runtime.full_callers.note(who, policy.queue, exc, size)
            raise
        made = view.record.id == task.id
        if task.from_own_queue:
            self._warn_of_own_queue(view.record.id, tool.name, policy.queue)
        log.info("task.created" if made else "task.attached", task_id=view.record.id, tool=tool.name)
        return view

    def _new_task(
        self,
        tool: HostTool,
        ctx: Request,
        who: str,
        payload: Mapping[str, Any],
        keys: CallKeys,
        keep_ms: float | None,
        limits: PrincipalLimits,
    ) -> NewTask:
        """The task of a call; its arguments are written here."""
        store, policy = self._runtime.store, tool.policy
        task_id = store.new_id(policy.queue)
        return NewTask(
            id=task_id,
            tool=tool.name,
            principal=who,
            listed_for=list_owner(ctx),
            payload=store.pack(task_id, payload, tool=tool.name, principal=who),
            queue=self._runtime.settings.qualified(policy.queue),
            retention=policy.kept_for if keep_ms is None else timedelta(milliseconds=min(keep_ms, _LONGEST_KEEP)),
            poll_interval=policy.polled_every,
            retries=policy.retries,
            deadline=policy.time_limit,
            not_before_ms=keys.not_before_ms,
            idempotency=keys.idempotency,
            idempotency_of=keys.idempotency_of,
            priority=policy.priority,
            lane=keys.lane or _running_lane(who, limits.running_tasks),
            limits=limits,
            client=client_class_of(ctx).name.lower(),
            client_name=client_info(ctx)[0],
            webhook=self._runtime.settings.webhook_ends(policy.webhook),
            from_own_queue=is_called_from(caller_mark(self._tool_host.name, policy.queue), ctx.meta),
        )

    def _warn_of_own_queue(self, task_id: str, tool: str, queue: str) -> None:
        """A task of this queue has called this tool: log that, once for each tool."""
        if tool not in self._warned:
            self._warned.add(tool)
            log.warning("task.waits_for_own_queue", task_id=task_id, tool=tool, queue=queue, hint=_HINT)


def _running_lane(principal: str, limit: int) -> Lane | None:
    """The lane of a principal's tasks that are in no other, if only so many of them may run."""
    return Lane(f"running {principal}", limit) if limit else None


def _keys(
    tool: HostTool, params: CallToolRequestParams, arguments: Mapping[str, Any], who: str
) -> CallKeys | CallToolResult:
    """The keys of the call; what it is answered with if a function of the author's cannot make them."""
    try:
        with wire_errors():
            return keys_of_call(tool.policy, params, arguments, who)
    except MCPError:
        raise
    except Exception as exc:
        return refused_call(tool.name, exc)


def _can_elicit(ctx: Request) -> bool:
    """Whether the client can ask its user."""
    declared = ctx.session.client_capabilities
    return declared is not None and declared.elicitation is not None


def _payload_of(params: CallToolRequestParams, ctx: Request, client: Mapping[str, Any]) -> dict[str, Any]:
    """What a worker needs to make this very call: arguments, settled questions, who the client was."""
    payload: dict[str, Any] = {"arguments": params.arguments or {}}
    if session := session_of(ctx):
        payload["session"] = session
    if trace := trace_of_call(ctx.meta):
        payload["trace"] = trace
    if params.input_responses is not None or params.request_state is not None:
        payload["inputs"] = params.model_dump(
            by_alias=True, mode="json", exclude_none=True, include={"input_responses", "request_state"}
        )
    if client:
        payload["client"] = client
    return payload


def client_as_stored(session: ServerSession, asks_by_tools: bool = False) -> dict[str, Any]:
    """What a task stores of its client. `asks_by_tools`: questions can be put to its model, whatever it declared."""
    stored: dict[str, Any] = {}
    capabilities = session.client_capabilities
    if capabilities is not None or asks_by_tools:
        declared = capabilities.model_dump(by_alias=True, mode="json", exclude_none=True) if capabilities else {}
        if asks_by_tools:
            stored["samples_by_tool"] = "sampling" not in declared
            stored["lists_roots_by_tool"] = "roots" not in declared
            declared = with_tool_answers(declared)
        stored["capabilities"] = declared
    if session.client_params is not None:
        stored["info"] = session.client_params.client_info.model_dump(by_alias=True, mode="json", exclude_none=True)
    return stored
