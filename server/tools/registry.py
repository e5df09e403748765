"""The task tools of one server by name: what may be added, and with which policy. Knows no store and no request."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mcp.server.mcpserver.tools import Tool
from tenacity import RetryCallState
from tenacity.wait import wait_base

from taskmill.engine.errors import DuplicateTool, PolicyError
from taskmill.engine.policy import TaskConfig
from taskmill.server.protocol.sdk_private import cache_output_adapter
from taskmill.server.tools.import_path import require_importable

__all__ = ["TaskTool", "ToolRegistry", "without_tenacity"]


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
            policy.check_against(list(tool.parameters.get("properties", {})))
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
