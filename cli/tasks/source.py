"""What `taskmill tasks` needs of a source of tasks: a server's API or a Redis. Both give the API's JSON."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

__all__ = ["Json", "OperationsSource", "TaskSource"]

Json = dict[str, Any]


class OperationsSource(Protocol):
    """Queues, tools, schedules and workers of one deployment, for operators: rows of the API."""

    async def queues(self) -> list[Json]:
        """Every queue."""

    async def tools(self) -> list[Json]:
        """Every task tool."""

    async def schedules(self) -> list[Json]:
        """Every schedule."""

    async def workers(self) -> list[Json]:
        """Every live worker."""

    async def pause(self, kind: str, name: str, reason: str) -> Json:
        """Pause a `queue` or `tool`; `name` and `paused`."""

    async def resume(self, kind: str, name: str) -> Json:
        """Resume it; `name` and `paused`, which is None."""

    async def drain(self, name: str, reason: str) -> Json:
        """Have a worker or a host take no tasks; `name` and `workers`."""

    async def undrain(self, name: str) -> Json:
        """Have it take tasks again; `name` and `workers`."""

    async def set_slots(self, name: str, slots: int | None, reason: str) -> Json:
        """Have it run so many tasks at a time, None = as configured; `name` and `workers`."""

    async def webhooks(self, state: str, limit: int) -> list[Json]:
        """Every webhook that is not delivered; `state`: `waiting` or `given_up`, '' = all."""

    async def retry_webhook(self, task_id: str) -> Json:
        """Try the webhook of a task again now; `name` and `retried`."""

    async def retry_webhooks(self) -> Json:
        """Try those again that were given up; how many these are, as `retried`."""


class TaskSource(Protocol):
    """Tasks of one deployment, as one caller may see them."""

    operations: OperationsSource

    async def list(self, where: Mapping[str, str], *, limit: int, cursor: str | None) -> Json:
        """`tasks`, at most `limit`, and `next_cursor`. `where`: the words of a filter."""

    async def dead_letters(self, where: Mapping[str, str], *, limit: int, cursor: str | None) -> Json:
        """The same for tasks that failed for good and were not run again."""

    async def show(self, task_id: str, *, history: bool = False) -> Json:
        """The whole task; `history` adds its events."""

    async def attempts(self, task_id: str) -> Sequence[Json]:
        """The attempts of the task, with their errors, for operators only."""

    async def cancel(self, task_id: str) -> Json:
        """Cancel the task; the cancelled task."""

    async def answer(self, task_id: str, answers: Json) -> None:
        """Answer open questions: a result of the protocol by the question's key."""

    async def count_for_bulk(self, action: str, where: Mapping[str, str], *, every: bool) -> Json:
        """How many tasks there are to `cancel` or `rerun`, as `count`, and the `token` that does it."""

    async def run_bulk(self, token: str) -> Json:
        """Do it to some of them: how many were `done`, which `failed`, and the `token` of the next ones, or None."""

    async def rerun(self, task_id: str, *, key: str | None, start: Mapping[str, Any]) -> Json:
        """Run the task again; the new task. `key`: idempotency key, None = a fresh one.

        `start`: `delay` or `not_before` as the API takes them; empty = at once.
        """

    async def audit(
        self, wanted: Mapping[str, str], *, limit: int, cursor: str | None = None, after: str | None = None
    ) -> Json:
        """`records` of the audit trail, and `next_cursor`; newest first, or with `after` oldest first.

        `wanted`: who, action, outcome, task and since, as the API takes them.
        """

    def events(self, task_id: str, *, after: int) -> AsyncIterator[Json]:
        """The events above number `after` as they happen, up to the last one. It waits through outages."""
