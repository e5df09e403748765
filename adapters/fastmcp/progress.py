"""FastMCP's `Progress` dependency in a worker: what it receives becomes the progress of the task."""

from fastmcp.server.dependencies import InMemoryProgress

from taskmill.adapters.fastmcp.current_task import current_attempt

__all__ = ["TaskProgress"]


class TaskProgress(InMemoryProgress):
    """In the place of FastMCP's own, which no one outside of the tool can read."""

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
