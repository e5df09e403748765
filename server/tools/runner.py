"""Runs task tools for a worker: makes the SDK's own call, and translates how it ended into an outcome of the task."""

from collections.abc import Mapping
from typing import Any, assert_never

from mcp.server.mcpserver.exceptions import ToolError, UnexpectedResourceError, UnexpectedToolError
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_REQUEST, CallToolResult, InputRequiredResult, InputResponseRequestParams

from taskmill.engine.context import TaskContext
from taskmill.engine.errors import ScopeMissing
from taskmill.engine.outcome import Outcome, Refused
from taskmill.engine.policy import TaskConfig
from taskmill.engine.ports import ScheduledCall
from taskmill.server.auth.scopes import require_scopes
from taskmill.server.context.context import Context
from taskmill.server.protocol.errors import scope_data
from taskmill.server.tools.caller_mark import caller_mark, marked_calls, send_marks
from taskmill.server.tools.registry import ToolRegistry, scheduled_call
from taskmill.server.tools.run_outcomes import ask, crash_in_words, failure, refused, returned, without_values
from taskmill.server.tools.tracing import record_outcome, run_span

__all__ = ["ToolRunner"]

_NO_INPUTS = InputResponseRequestParams()


class ToolRunner:
    """The task tools of one server, inside its lifespan."""

    def __init__(self, server: Any, registry: ToolRegistry, lifespan: Any) -> None:
        self._server = server
        self._registry = registry
        self._lifespan = lifespan
        send_marks()
        self._marks: dict[str, str] = {}
        """Mark of its queue by tool."""
        self._empty_context: Context[Any, Any] = Context(mcp_server=server)
        """For tools that take no context: to make one costs more than many tools do."""

    def policy(self, tool: str) -> TaskConfig | None:
        """The policy of a task tool; None if this process does not know it."""
        entry = self._registry.find(tool)
        return entry.policy if entry else None

    def policies(self) -> Mapping[str, TaskConfig]:
        """Every task tool by name."""
        return self._registry.policies()

    async def run(self, tool: str, payload: Mapping[str, Any], context: TaskContext) -> Outcome:
        """Run one attempt, exactly as the SDK would call the tool. A crash raises what the tool raised.

        An `InputRequiredResult` becomes questions of the task, and the tool is called again with the answers.
        """
        with run_span(tool, payload.get("trace"), context) as span, marked_calls(self._mark_of(tool)):
            outcome = await self._run(tool, payload, context)
            record_outcome(span, outcome)
            return outcome

    def scheduled_call(self, tool: str) -> ScheduledCall:
        """See `Toolbox`."""
        entry = self._registry.find(tool)
        assert entry is not None, "the worker asks for the policy first"
        given = dict(entry.policy.schedule_arguments or {})
        return scheduled_call(tool, entry.policy, given, entry.tool.fn_metadata.validate_arguments(given))

    def failure_outcome(self, tool: str, crash: BaseException, reference: str) -> Outcome:
        """What a foreground call shows of a crash - the tool's name, not the error's text - and the log's reference."""
        return crash_in_words(crash) or failure(f"Error executing tool {tool} (reference {reference})")

    async def _run(self, tool: str, payload: Mapping[str, Any], context: TaskContext) -> Outcome:
        inputs = _NO_INPUTS
        if "inputs" in payload:
            inputs = InputResponseRequestParams.model_validate(payload["inputs"], by_name=False)
        while True:
            try:
                self._check_scopes(tool, payload)
                result = await self._call(tool, payload, context, inputs)
                if isinstance(result, InputRequiredResult):
                    inputs = await ask(context, result, payload)
                    continue
            except ScopeMissing as exc:
                return Refused(INVALID_REQUEST, str(exc), scope_data(exc))
            except MCPError as exc:
                if (outcome := refused(exc)) is None:
                    raise
                return outcome
            except (UnexpectedToolError, UnexpectedResourceError) as exc:
                crash = _root_of(exc)
            except ToolError as exc:
                return failure(str(exc))
            else:
                return await returned(result, context)
            # Out of any handler, so that it keeps the author's cause and gets no other error beside it.
            raise without_values(crash)

    def _mark_of(self, tool: str) -> str:
        if tool not in self._marks:
            policy = self.policy(tool)
            self._marks[tool] = caller_mark(self._server.name, policy.queue if policy is not None else "")
        return self._marks[tool]

    def _check_scopes(self, tool: str, payload: Mapping[str, Any]) -> None:
        """Check again: the version that runs the tool may require more scopes than the version that was called."""
        if (policy := self.policy(tool)) is not None:
            require_scopes(tool, policy, payload.get("caller", {}))

    async def _call(
        self, tool: str, payload: Mapping[str, Any], task: TaskContext, inputs: InputResponseRequestParams
    ) -> CallToolResult | InputRequiredResult:
        entry = self._registry.find(tool)
        assert entry is not None, "the worker asks for the policy first"
        context = self._empty_context
        if entry.tool.context_kwarg is not None or entry.tool.resolved_params:
            claims = payload.get("caller", {}).get("claims", {})
            context = Context.for_task(task, self._server, self._lifespan, payload.get("client", {}), inputs, claims)
        result = await entry.tool.run(payload["arguments"], context, convert_result=True)
        match result:
            case CallToolResult() | InputRequiredResult():
                return result
            case _:
                assert_never(result)


def _root_of(exc: BaseException) -> BaseException:
    """What the tool raised, inside the SDK's wrappers."""
    while isinstance(exc, UnexpectedToolError | UnexpectedResourceError) and exc.__cause__ is not None:
        exc = exc.__cause__
    return exc
