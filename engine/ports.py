"""What a worker needs of a loaded server, as Protocols: its tools, and how to open them.

`server/` implements both; the ports of one attempt are in `context.py`. No implementation lives here.
"""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from taskmill.engine.context import TaskContext
from taskmill.engine.outcome import Outcome
from taskmill.engine.policy import TaskConfig
from taskmill.engine.record import Lane

__all__ = ["ScheduledCall", "ToolSource", "Toolbox"]


@dataclass(frozen=True, slots=True)
class ScheduledCall:
    """The call of a tool that its schedule makes, the same each time."""

    payload: Mapping[str, Any]
    """As a server stores that of a client's call."""
    lane: Lane | None
    """The lane its task has to stay in."""


class Toolbox(Protocol):
    """The tools of one loaded server, ready to run in this process."""

    def policy(self, tool: str) -> TaskConfig | None:
        """The policy of a task tool; None when this process does not know it (a rolling deploy)."""

    def policies(self) -> Mapping[str, TaskConfig]:
        """Every task tool by name."""

    async def run(self, tool: str, payload: Mapping[str, Any], context: TaskContext) -> Outcome:
        """Run one attempt; returns how it ended.

        `payload` is what the server stored at creation. What the tool raises is raised, not returned: the worker
        decides whether to try again, and when it does not, `failure_outcome` makes an outcome of the error.
        """

    def scheduled_call(self, tool: str) -> ScheduledCall:
        """What a run of a tool by its schedule is made of."""

    def failure_outcome(self, tool: str, error: BaseException, reference: str) -> Outcome:
        """The outcome of an error that is not retried: what a foreground call would have shown, and `reference`."""


class ToolSource(Protocol):
    """A loaded server object that can open its toolbox."""

    def toolbox(self) -> AbstractAsyncContextManager[Toolbox]:
        """The toolbox, inside the server's lifespan."""
