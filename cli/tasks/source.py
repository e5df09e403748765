"""What `taskmill tasks` asks of the place where tasks are: a server's API or a Redis. Both speak the API's JSON."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

__all__ = ["Json", "TaskSource"]

Json = dict[str, Any]


class TaskSource(Protocol):
    """Tasks of one deployment, as one caller may see them."""

    async def list(self, *, statuses: Sequence[str], tool: str | None, limit: int, cursor: str | None) -> Json:
        """`tasks`, at most `limit`, and `next_cursor`."""

    async def dead_letters(self, *, tool: str | None, limit: int, cursor: str | None) -> Json:
        """The same of tasks that broke for good and were not run again."""

    async def show(self, task_id: str, *, history: bool = False) -> Json:
        """The task in full."""

    async def cancel(self, task_id: str) -> Json:
        """The task, cancelled."""

    async def rerun(self, task_id: str, *, key: str | None) -> Json:
        """The new task."""

    def events(self, task_id: str, *, after: int) -> AsyncIterator[Json]:
        """The events above number `after` as they happen, to the last; outages are waited out."""
