"""Runs a tool at once, in the test's own asyncio task: no Redis, no worker, no client. All that it does is recorded.

What needs the engine - retries, leases, cancels - is not here; `bed.py` has it.
"""

from collections.abc import AsyncIterable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from copy import deepcopy
from dataclasses import dataclass, field
from hashlib import sha256
from types import TracebackType
from typing import Any, Self, assert_never

from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult

from taskmill.engine.artifact import Artifact
from taskmill.engine.context import StateScope, TaskContext
from taskmill.engine.errors import BadArguments
from taskmill.engine.outcome import Failed, Outcome, Refused, Returned
from taskmill.engine.ports import Toolbox
from taskmill.engine.principal import ANONYMOUS, new_task_id
from taskmill.engine.record import Progress
from taskmill.engine.steps import as_json, not_inside, run_step
from taskmill.server.tool_host import ToolHost
from taskmill.store.sessions.caller_state import check_name, resolved_scope
from taskmill.testing.answers import Answerer, Answers

__all__ = ["Eager", "EagerRun"]

_CAPABILITIES: dict[str, Any] = {"elicitation": {"form": {}, "url": {}}, "sampling": {"tools": {}}, "roots": {}}


@dataclass(frozen=True)
class EagerRun:
    """What one run of a tool reported, asked, stored and returned."""

    task_id: str
    result: CallToolResult
    progress: list[Progress] = field(default_factory=list)
    """Every report, none coalesced."""
    questions: list[dict[str, Any]] = field(default_factory=list)
    """Every question, as a protocol request."""
    output: list[Any] = field(default_factory=list)
    """What was emitted."""
    artifacts: dict[str, bytes] = field(default_factory=dict)
    """What was attached, by name."""
    steps: list[str] = field(default_factory=list)
    """The durable steps that ran, in order; recorded ones did not."""
    state: dict[str, Any] = field(default_factory=dict)
    """`ctx.state` at the end."""

    @property
    def text(self) -> str:
        """The text of the result."""
        return "\n".join(block.text for block in self.result.content if block.type == "text")

    @property
    def messages(self) -> list[str]:
        """The messages of the reports that had one."""
        return [report.message for report in self.progress if report.message is not None]


class Eager:
    """The task tools of a server, inside its lifespan: `async with Eager(mcp) as eager`."""

    def __init__(self, server: ToolHost, *, principal: str = ANONYMOUS) -> None:
        self._server = server
        self._principal = principal
        self._kept: dict[str, dict[str, Any]] = {"session": {}, "principal": {}}
        self._opening: AbstractAsyncContextManager[Toolbox] | None = None
        self._toolbox: Toolbox | None = None

    async def __aenter__(self) -> Self:
        self._opening = self._server.toolbox()
        self._toolbox = await self._opening.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._opening is not None
        await self._opening.__aexit__(kind, error, trace)

    async def call(
        self,
        tool: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        answers: Answers = (),
        claims: Mapping[str, Any] | None = None,
        attempt: int = 1,
        recorded: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> EagerRun:
        """Run a task tool to its end.

        `claims`: the value of `ctx.claims`. For a later attempt: `attempt`, `recorded` - results of its durable steps
        by name - and `state`.

        Raises:
            BadArguments: there is no such task tool.
            MCPError: the tool raised one.
            AssertionError: the test has no answer to a question, or the result could not be stored.
            Exception: whatever else the tool raised, as it was raised.
        """
        assert self._toolbox is not None, "async with Eager(mcp) as eager: ..."
        if self._toolbox.policy(tool) is None:
            known = ", ".join(sorted(self._toolbox.policies())) or "none"
            raise BadArguments(f"There is no task tool {tool!r}. Task tools: {known}.")
        eager_attempt = _EagerAttempt(answers, recorded or {}, state or {}, self._kept)
        context = eager_attempt.context(self._principal, attempt)
        try:
            outcome = await self._toolbox.run(tool, _payload(arguments or {}, claims or {}), context)
        finally:
            context.end()
        return eager_attempt.run(context.task_id, _result(tool, outcome))


class _EagerAttempt:
    """The ports of one run, which record all that the tool does."""

    def __init__(
        self,
        answers: Answers,
        recorded: Mapping[str, Any],
        state: Mapping[str, Any],
        kept: Mapping[str, dict[str, Any]],
    ) -> None:
        self._answerer = Answerer(answers)
        self._output = _MemoryOutput()
        self._journal = _MemoryJournal(dict(recorded), dict(state))
        self._progress: list[Progress] = []
        self._kept = kept

    def context(self, principal: str, attempt: int) -> TaskContext:
        """The context of the tool."""
        return TaskContext(
            task_id=new_task_id(),
            attempt=attempt,
            fence=attempt,
            principal=principal,
            report=lambda progress: self._progress.append(progress),
            ask=self._ask,
            output=self._output,
            journal=self._journal,
            caller_state=_MemoryCallerState(self._kept, principal),
        )

    def run(self, task_id: str, result: CallToolResult) -> EagerRun:
        """The record of the run."""
        return EagerRun(
            task_id,
            result,
            self._progress,
            self._answerer.asked,
            self._output.output,
            self._output.artifacts,
            self._journal.ran,
            self._journal.state,
        )

    async def _ask(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [self._answerer(request) for request in requests]


def _payload(arguments: Mapping[str, Any], claims: Mapping[str, Any]) -> dict[str, Any]:
    """The payload that a server would have stored."""
    return {
        "arguments": dict(arguments),
        "client": {"capabilities": _CAPABILITIES, "info": {"name": "taskmill.testing", "version": "1"}},
        "caller": {"trusted": True, "scopes": [], "claims": dict(claims)},
    }


def _result(tool: str, outcome: Outcome) -> CallToolResult:
    match outcome:
        case Returned():
            return CallToolResult.model_validate(outcome.value, by_name=False)
        case Refused():
            raise MCPError(outcome.code, outcome.message, outcome.data)
        case Failed():
            raise AssertionError(f"{tool} failed ({outcome.fault}): {outcome.text}")
        case _:
            assert_never(outcome)


class _MemoryJournal:
    """A `JournalPort` in memory."""

    def __init__(self, recorded: dict[str, Any], state: dict[str, Any]) -> None:
        self._recorded = recorded
        self.state = state
        self.ran: list[str] = []

    async def step(self, name: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        not_inside(f"Step {name!r}")
        if name in self._recorded:
            return self._recorded[name]
        self.ran.append(name)
        return as_json(await run_step(name, call, args, kwargs), what=f"The result of step {name!r}")

    async def save(self) -> None:
        return None


class _MemoryCallerState:
    """A `CallerStatePort` in memory: all calls of one `Eager` are of one session."""

    def __init__(self, kept: Mapping[str, dict[str, Any]], principal: str) -> None:
        self._kept = kept
        self._principal = principal

    async def read(self, name: str, scope: StateScope | None) -> list[Any]:
        values = self._of(scope)
        return [deepcopy(values[name])] if name in values else []

    async def write(self, name: str, value: Any, scope: StateScope | None) -> None:
        self._of(scope)[check_name(name)] = deepcopy(value)

    async def delete(self, name: str, scope: StateScope | None) -> None:
        self._of(scope).pop(name, None)

    def _of(self, scope: StateScope | None) -> dict[str, Any]:
        return self._kept[resolved_scope(scope, principal=self._principal, session="eager")]


class _MemoryOutput:
    """An `OutputPort` in memory."""

    inline_limit = 2**31

    def __init__(self) -> None:
        self.output: list[Any] = []
        self.artifacts: dict[str, bytes] = {}

    async def emit(self, chunk: Any) -> None:
        self.output.append(chunk)

    async def attach(self, content: AsyncIterable[bytes], *, name: str, mime_type: str) -> Artifact:
        kept = self.artifacts[name] = b"".join([piece async for piece in content])
        return Artifact(
            id=new_task_id(),
            task_id="",
            principal=ANONYMOUS,
            name=name,
            mime_type=mime_type,
            size=len(kept),
            digest=sha256(kept).hexdigest(),
            place="memory",
        )
