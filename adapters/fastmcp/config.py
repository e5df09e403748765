"""What an author decides about a task tool of a FastMCP server: FastMCP's `TaskConfig`, and Taskmill's policy in it.

FastMCP keeps it on the tool, also through a mount, so it is a subclass. What the fields mean is in `engine/policy.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any, Literal

from fastmcp.utilities.tasks import TaskConfig as FastMCPTaskConfig

from taskmill.engine.key import KeySource
from taskmill.engine.policy import Duration, Reuse
from taskmill.engine.policy import TaskConfig as Policy
from taskmill.engine.retrying import Backoff, RetryOn
from taskmill.engine.timing.schedule import Schedule
from taskmill.server.tools.registry import without_tenacity

__all__ = ["TaskConfig", "policy_of"]


@dataclass(kw_only=True)
class TaskConfig(FastMCPTaskConfig):
    """`@mcp.tool(task=TaskConfig(retries=3))`: FastMCP's, with Taskmill's fields. See `taskmill.TaskConfig` for each.

    A plain `def` function may have it as well: it runs in a thread of the worker.

    Raises:
        PolicyError: a value that cannot work, or two that contradict each other.
    """

    poll_interval: Duration = timedelta(seconds=1)  # type: ignore[assignment]  # FastMCP's is a timedelta only
    timeout: Duration | Literal["default"] | None = "default"
    retries: int = 0
    backoff: Backoff = 2
    retry_on: RetryOn | None = None
    deadline: Duration | None = None
    retention: Duration = timedelta(hours=24)
    park_after: Duration | None = 5
    queue: str = "default"
    scopes: Sequence[str] = ()
    isolation: Literal["none", "process"] = "none"
    memory_limit: int | None = None
    cpu_limit: Duration | None = None
    process_limit: int | None = None
    open_file_limit: int | None = None
    file_size_limit: int | None = None
    reuse: Reuse = "principal"
    idempotency: KeySource | None = None
    handoff_after: Duration | None = None
    priority: int = 0
    concurrency_key: KeySource | None = None
    concurrency_limit: int | None = None
    rate_limit: tuple[int, Duration] | None = None
    webhook: str | Literal[False] | None = None
    schedule: Schedule | str | Duration | None = None
    schedule_arguments: Mapping[str, Any] | None = None
    policy: Policy = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        given = {one.name: getattr(self, one.name) for one in fields(Policy)}
        self.policy = without_tenacity(Policy(**{**given, "mode": _mode(self)}))
        self.poll_interval = self.policy.polled_every

    def validate_function(self, fn: Callable[..., Any], name: str) -> None:
        """Accept every function; FastMCP accepts async ones only."""


def policy_of(config: FastMCPTaskConfig) -> Policy | None:
    """Taskmill's policy of a tool with this configuration; None = it does not run as a task."""
    if not config.supports_tasks():
        return None
    if isinstance(config, TaskConfig):
        return config.policy
    return Policy(mode=_mode(config), poll_interval=config.poll_interval)


def _mode(config: FastMCPTaskConfig) -> Literal["optional", "required"]:
    return "required" if config.mode == "required" else "optional"
