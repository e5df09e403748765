"""Runs task tools of a FastMCP server for a worker: the call that FastMCP would make in the foreground, by the restored
caller, on a session whose other end is the task.

The server's own middleware ran when the task was created, and does not run again; that of a mounted server runs here.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import structlog
from fastmcp import FastMCP
from fastmcp.exceptions import DisabledError, FastMCPError, NotFoundError, ToolError
from fastmcp.server.dependencies import bind_request_context
from fastmcp.tools.base import InputRequiredToolResult, ToolResult
from fastmcp.utilities.versions import VersionSpec
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_REQUEST, InputRequiredResult
from mcp_types.version import LATEST_MODERN_VERSION, MODERN_PROTOCOL_VERSIONS

from taskmill.adapters.fastmcp.caller import PAYLOAD_KEY, kept_version, restored_caller
from taskmill.adapters.fastmcp.current_task import current_attempt, current_models
from taskmill.adapters.fastmcp.fastmcp_private import (
    call_result,
    is_raw_structured,
    masks_errors,
    shared_dependencies,
    wait_until_started,
)
from taskmill.adapters.fastmcp.tools import FastMCPTools
from taskmill.adapters.fastmcp.worker_session import worker_request
from taskmill.engine.context import TaskContext
from taskmill.engine.errors import ScopeMissing
from taskmill.engine.outcome import Outcome, Refused
from taskmill.engine.policy import TaskConfig
from taskmill.engine.ports import ScheduledCall
from taskmill.server.auth.scopes import require_scopes
from taskmill.server.context.client_models import ClientOfTask
from taskmill.server.protocol.errors import scope_data
from taskmill.server.tools.caller_mark import caller_mark, marked_calls, send_marks
from taskmill.server.tools.registry import scheduled_call
from taskmill.server.tools.run_outcomes import (
    ask,
    capabilities_of,
    crash_in_words,
    failure,
    refused,
    returned,
    without_values,
)
from taskmill.server.tools.tracing import record_outcome, run_span

__all__ = ["FastMCPToolbox"]

log = structlog.get_logger()
_SHOWN = "taskmill_shown"
"""Attribute of an error that a tool raised: what FastMCP would have answered with."""
_NOTHING_ASKED = "The tool asked for input in a state-only round: it named no question, so no answer can come."


class FastMCPToolbox:
    """The task tools of one server, inside its lifespans."""

    def __init__(self, server: FastMCP[Any], tools: FastMCPTools) -> None:
        self._server = server
        self._tools = tools
        send_marks()
        self._learning: asyncio.Task[None] | None = None

    def policy(self, tool: str) -> TaskConfig | None:
        """The policy of a task tool; None if this process does not know it: then it looks again, for the next time."""
        known = self._tools.find(tool)
        if known is None and (self._learning is None or self._learning.done()):
            self._learning = asyncio.get_running_loop().create_task(self._learn(), name="taskmill.tools")
        return known.policy if known else None

    def policies(self) -> Mapping[str, TaskConfig]:
        """Every task tool by name."""
        return self._tools.policies()

    async def run(self, tool: str, payload: Mapping[str, Any], context: TaskContext) -> Outcome:
        """Run one attempt. A crash raises what the tool raised.

        An `InputRequiredResult` becomes questions of the task, and the tool is called again with the answers.
        """
        await wait_until_started(self._server)
        known = self._tools.find(tool)
        mark = caller_mark(self._server.name, known.policy.queue if known is not None else "")
        with run_span(tool, payload.get("trace"), context) as span, marked_calls(mark):
            client = ClientOfTask(
                context, capabilities_of(payload), payload.get("client", {}).get("samples_by_tool", False)
            )
            token = current_attempt.set(context)
            models = current_models.set((self._tools.own_model, client))
            try:
                with restored_caller(payload.get(PAYLOAD_KEY, {})), shared_dependencies(self._server):
                    outcome = await self._run(tool, payload, context)
            finally:
                current_models.reset(models)
                current_attempt.reset(token)
            record_outcome(span, outcome)
            return outcome

    def scheduled_call(self, tool: str) -> ScheduledCall:
        """See `Toolbox`. The caller is no client; FastMCP checks none on stdio."""
        known = self._tools.find(tool)
        assert known is not None, "the worker asks for the policy first"
        given = dict(known.policy.schedule_arguments or {})
        carried = {PAYLOAD_KEY: {"transport": "stdio", "protocol": LATEST_MODERN_VERSION, "as_task": True}}
        return scheduled_call(tool, known.policy, given, given, carried)

    def failure_outcome(self, tool: str, crash: BaseException, reference: str) -> Outcome:
        """What a foreground call shows of a crash; where that names no reason, the log's reference."""
        if (worded := crash_in_words(crash)) is not None:
            return worded
        shown = getattr(crash, _SHOWN, None)
        if shown is not None and not masks_errors(self._server):
            return failure(shown)
        return failure(f"{shown or f'Error calling tool {tool!r}'} (reference {reference})")

    async def _run(self, tool: str, payload: Mapping[str, Any], context: TaskContext) -> Outcome:
        inputs: Mapping[str, Any] = payload.get("inputs", {})
        while True:
            ended = await self._round(tool, payload, inputs, context)
            if isinstance(ended, BaseException):
                raise without_values(ended)  # out of any handler, so that its log names no other error beside it
            if not isinstance(ended, InputRequiredResult):
                return ended
            if not ended.input_requests:
                return failure(_NOTHING_ASKED)
            try:
                answered = await ask(context, ended, payload)
            except MCPError as exc:
                return Refused(exc.code, exc.message, exc.data)
            inputs = answered.model_dump(by_alias=True, mode="json", exclude_none=True)

    async def _round(
        self, tool: str, payload: Mapping[str, Any], inputs: Mapping[str, Any], context: TaskContext
    ) -> Outcome | InputRequiredResult | BaseException:
        """Call the tool once: how it ended, what it asks, or what it raised."""
        try:
            self._check_scopes(tool, payload)
            result = await self._call(tool, payload, inputs, context)
        except ScopeMissing as exc:
            return Refused(INVALID_REQUEST, str(exc), scope_data(exc))
        except MCPError as exc:
            return refused(exc) or exc
        except (NotFoundError, DisabledError):
            return failure(f"Unknown tool: {tool!r}")  # as FastMCP's handler answers
        except FastMCPError as exc:
            return _ended(exc, await self._tools.in_words(exc, tool), payload)
        if isinstance(result, InputRequiredToolResult):
            return result.input_required
        return await returned(call_result(_for_client(result, payload)), context)

    def _check_scopes(self, tool: str, payload: Mapping[str, Any]) -> None:
        """Check again: the version that runs the tool may require more scopes than the version that was called."""
        if (policy := self.policy(tool)) is not None:
            require_scopes(tool, policy, payload.get("caller", {}))

    async def _call(
        self, tool: str, payload: Mapping[str, Any], inputs: Mapping[str, Any], context: TaskContext
    ) -> ToolResult:
        version = kept_version(payload.get(PAYLOAD_KEY, {}))
        with bind_request_context(worker_request(tool, payload, inputs, context)):
            return await self._server.call_tool(
                tool,
                payload["arguments"],
                version=VersionSpec(eq=version) if version else None,
                run_middleware=False,
            )

    async def _learn(self) -> None:
        try:
            await self._tools.collect()
        except FastMCPError as exc:
            log.warning("tools.unreadable", error=type(exc).__name__)


def _ended(error: FastMCPError, words: str, payload: Mapping[str, Any]) -> Outcome | BaseException:
    """The outcome of an error that FastMCP shows to callers; or the crash that it stands for, which may be retried.

    `words`: what callers read of it.
    A protocol error of the tool fails a task with its code; a call that is no task gets it as in the foreground.
    """
    cause = error.__cause__ if isinstance(error, ToolError) else None
    if isinstance(cause, MCPError) and not isinstance(cause.__cause__, FastMCPError):
        outcome = refused(cause)
        if outcome is None:
            return cause
        return outcome if payload.get(PAYLOAD_KEY, {}).get("as_task", True) else failure(words)
    # Middleware of a mounted server makes a protocol error of what the tool raised, and FastMCP a tool error of that.
    while isinstance(cause, FastMCPError) or (isinstance(cause, MCPError) and refused(cause) is not None):
        cause = cause.__cause__
    if cause is None:
        return failure(words)
    with suppress(AttributeError):  # an exception with __slots__
        setattr(cause, _SHOWN, words)
    return cause


def _for_client(result: ToolResult, payload: Mapping[str, Any]) -> ToolResult:
    """The result as the revision of the caller has it: before 2026 structured content is an object."""
    structured = result.structured_content
    is_object = structured is None or (isinstance(structured, dict) and not is_raw_structured(result))
    if is_object or payload.get(PAYLOAD_KEY, {}).get("protocol") in MODERN_PROTOCOL_VERSIONS:
        return result
    meta = dict(result.meta or {})
    ours = meta.get("fastmcp")
    if isinstance(ours, dict) and ours.get("wrap_result") is True:
        return result
    meta["fastmcp"] = {**(ours if isinstance(ours, dict) else {}), "wrap_result": True}
    return ToolResult(
        content=result.content, structured_content={"result": structured}, meta=meta, is_error=result.is_error
    )
