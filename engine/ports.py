"""What the engine's users need of the outside, as Protocols: the tools, the asker, the listener of progress.

`server/` implements `Toolbox`, `workers/` the others. No implementation lives here.
"""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from taskmill.engine.context import TaskContext
from taskmill.engine.outcome import Outcome
from taskmill.engine.policy import TaskConfig

__all__ = ["ToolSource", "Toolbox"]


class Toolbox(Protocol):
    """The tools of one loaded server, ready to run in this process."""

    def policy(self, tool: str) -> TaskConfig | None:
        """The policy of a task tool; None when this process does not know it (a rolling deploy)."""

    def policies(self) -> Mapping[str, TaskConfig]:
        """Every task tool by name."""

    async def run(self, tool: str, payload: Mapping[str, Any], context: TaskContext) -> Outcome:
        """Run one attempt and say how it ended.

        `payload` is what the server stored at creation. A crash of the tool's own is raised, not returned: whether
        to try again is the worker's decision, and `blame` makes an outcome of it in the end.
        """

    def blame(self, tool: str, crash: BaseException, reference: str) -> Outcome:
        """The outcome of a crash that is not retried: what a foreground call would have shown, and `reference`."""


class ToolSource(Protocol):
    """A loaded server object that can open its toolbox."""

    def toolbox(self) -> AbstractAsyncContextManager[Toolbox]:
        """The toolbox, inside the server's lifespan."""
