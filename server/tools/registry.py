"""The task tools of one server by name: what may be added, with which policy, and what their schedules call.

Knows no store and no request.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mcp.server.mcpserver.tools import Tool
from mcp_types import CallToolRequestParams
from pydantic import ValidationError
from tenacity import RetryCallState
from tenacity.wait import wait_base

from taskmill.engine.errors import DuplicateTool, PolicyError
from taskmill.engine.policy import TaskConfig
from taskmill.engine.ports import ScheduledCall
from taskmill.engine.principal import SCHEDULE
from taskmill.server.protocol.arguments import faults_of
from taskmill.server.protocol.sdk_private import cache_output_adapter
from taskmill.server.tools.call_keys import keys_of_call
from taskmill.server.tools.import_path import require_importable

__all__ = ["TaskTool", "ToolRegistry", "check_scheduled_call", "scheduled_call", "without_tenacity"]

_CLIENT: Mapping[str, Any] = {"capabilities": {"elicitation": {}}}
"""Operators can answer questions of its tasks."""


@dataclass(frozen=True, slots=True)
class TaskTool:
    """A task tool: the SDK's registration and the author's policy."""

    tool: Tool
    policy: TaskConfig

    @property
    def name(self) -> str:
        """The name a client calls it by."""
        return self.tool.name


class ToolRegistry:
    """The task tools of one server."""

    def __init__(self) -> None:
        self._tools: dict[str, TaskTool] = {}

    def add(self, tool: Tool, policy: TaskConfig) -> None:
        """Make a registered tool a task tool.

        Raises:
            DuplicateTool: there is one of that name.
            PolicyError: the policy does not fit the tool.
        """
        if tool.name in self._tools:
            raise DuplicateTool(f"Two task tools are named {tool.name!r}. Give one another name.")
        try:
            policy = without_tenacity(policy)
            policy.check_against(list(tool.parameters.get("properties", {})), tool.parameters.get("required", ()))
            if policy.firings is not None:
                check_scheduled_call(tool.name, policy, tool.fn_metadata.validate_arguments)
            if policy.isolation == "process":
                require_importable(tool.fn)
        except PolicyError as exc:
            raise PolicyError(f"Tool {tool.name!r}: {exc}") from None
        cache_output_adapter(tool)
        self._tools[tool.name] = TaskTool(tool, policy)

    def remove(self, name: str) -> None:
        """Forget a tool, if it is a task tool."""
        self._tools.pop(name, None)

    def find(self, name: str) -> TaskTool | None:
        """The task tool of that name, None if there is none."""
        return self._tools.get(name)

    @property
    def has_scoped(self) -> bool:
        """Whether any task tool requires scopes."""
        return any(entry.policy.scopes for entry in self._tools.values())

    def policies(self) -> Mapping[str, TaskConfig]:
        """Policy by tool name."""
        return {name: entry.policy for name, entry in self._tools.items()}


def scheduled_call(
    tool: str,
    policy: TaskConfig,
    given: Mapping[str, Any],
    validated: Mapping[str, Any],
    carried: Mapping[str, Any] | None = None,
) -> ScheduledCall:
    """The call of a tool by its schedule, with the arguments as they are given and validated.

    No client's rights are checked: the author makes it. `carried`: what else its host needs, see `CallHost.carried`.

    Raises:
        Exception: a `concurrency_key` of the author's raised it.
    """
    # Each firing is a task of its own, whatever two calls of a client would be.
    params = CallToolRequestParams(name=tool, arguments=dict(given))
    keys = keys_of_call(replace(policy, idempotency=None), params, validated, SCHEDULE)
    caller = {"scopes": [], "trusted": True}
    payload = {**(carried or {}), "arguments": dict(given), "client": _CLIENT, "caller": caller}
    return ScheduledCall(payload, keys.lane)


def check_scheduled_call(
    tool: str, policy: TaskConfig, validate: Callable[[dict[str, Any]], Mapping[str, Any] | None]
) -> None:
    """Refuse arguments of a schedule that the tool would refuse. `validate`: as a call is validated.

    Raises:
        PolicyError: they do not fit.
        Exception: a `concurrency_key` of the author's raised it.
    """
    given = dict(policy.schedule_arguments or {})
    try:
        validated = validate(given)
    except ValidationError as exc:
        raise PolicyError(f"schedule_arguments do not fit: {'; '.join(faults_of(exc))}") from None
    scheduled_call(tool, policy, given, validated or given)


def without_tenacity(policy: TaskConfig) -> TaskConfig:
    """The same policy, with a backoff that is a plain function of how many attempts have failed.

    Raises:
        PolicyError: the wait strategy looks at the error.

    The engine knows nothing else: a wait strategy of tenacity becomes such a function.
    """
    if not isinstance(policy.backoff, wait_base):
        return policy
    return replace(policy, backoff=_function_of(policy.backoff))


def _function_of(strategy: wait_base) -> Callable[[int], float]:
    def wait(failures: int) -> float:
        nothing: Any = None
        state = RetryCallState(retry_object=nothing, fn=None, args=(), kwargs={})
        state.attempt_number = failures
        try:
            return float(strategy(state))
        except (AttributeError, RuntimeError) as exc:
            raise PolicyError(
                f"backoff={type(strategy).__name__} looks at the error; use one that looks at the attempt's number only"
            ) from exc

    return wait
