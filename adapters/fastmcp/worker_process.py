"""What FastMCP knows of tasks in a process that runs them: its contexts, its `Progress` dependency, and its logs."""

import logging
import warnings

from fastmcp.server.dependencies import InMemoryProgress
from mcp import MCPDeprecationWarning

from taskmill.adapters.fastmcp.current_task import current_attempt
from taskmill.adapters.fastmcp.fastmcp_private import show_task_in_contexts

__all__ = ["prepare_process"]

_CRASH = "Error calling tool"


def prepare_process() -> None:
    """Have FastMCP know tasks in this process. Outside of tasks nothing changes, and a second call does nothing."""
    show_task_in_contexts(_task_id, TaskProgress)
    # The worker itself logs a tool that raised, with a reference.
    logging.getLogger("fastmcp.server.server").addFilter(_is_no_crash_of_task)
    # FastMCP sends log messages, which the protocol has deprecated: an author can change nothing there.
    warnings.filterwarnings("ignore", category=MCPDeprecationWarning, module=r"fastmcp\.")


class TaskProgress(InMemoryProgress):
    """What the dependency receives becomes the progress of the task; no one outside could read FastMCP's own."""

    async def set_total(self, total: int) -> None:
        """Set the total."""
        await super().set_total(total)
        self._report()

    async def increment(self, amount: int = 1) -> None:
        """Add to what is done."""
        await super().increment(amount)
        self._report()

    async def set_message(self, message: str | None) -> None:
        """Say in words how far the work is."""
        await super().set_message(message)
        self._report()

    def _report(self) -> None:
        attempt = current_attempt.get()
        if attempt is not None:
            attempt.report_progress(self.current, self.total, self.message)  # type: ignore[unused-awaitable]


def _task_id() -> str | None:
    attempt = current_attempt.get()
    return None if attempt is None else attempt.task_id


def _is_no_crash_of_task(record: logging.LogRecord) -> bool:
    return current_attempt.get() is None or not record.getMessage().startswith(_CRASH)
