"""The store as servers and operators use it, whatever number of Redis servers is behind it.

What one Redis does is in `redis_store.py`, what several do is in `sharding/sharded.py`; `opening.py` chooses. What
workers do (claim, renew, finish...) is in `claims/claims.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from taskmill.engine.errors import TaskNotFound
from taskmill.engine.events import AttemptError, Event
from taskmill.engine.principal import PrincipalLimits
from taskmill.engine.record import NewTask, TaskRecord, TaskView
from taskmill.engine.timing.start_time import check_deadline
from taskmill.store.artifacts.artifacts import ArtifactReader
from taskmill.store.audit.stream import AuditStream
from taskmill.store.formats.filters import ANY_TASK, TaskFilter
from taskmill.store.formats.keys import DEAD_LETTERS, Keys
from taskmill.store.formats.paging import Cursors, Page, Slice
from taskmill.store.metrics.counts import TaskCounts
from taskmill.store.metrics.figures import Figures
from taskmill.store.pubsub.event_tail import EventTails
from taskmill.store.pubsub.task_feed import TaskFeed
from taskmill.store.sessions.caller_state import CallerStateStore
from taskmill.store.sessions.list_changes import ListChanges
from taskmill.store.sessions.open_calls import AbandonedCallStore, CallTimeoutStore, OpenCallStore
from taskmill.store.sessions.sessions import SessionStore
from taskmill.store.tasks.output import OutputReader
from taskmill.store.tasks.pauses import Pause
from taskmill.store.tasks.schedules import KnownSchedule
from taskmill.store.tasks.stats import Stats
from taskmill.store.tasks.worker_orders import Order, WorkerOrders
from taskmill.store.webhooks.deliveries import Delivery

__all__ = ["EVENT_PAGE", "MOST_COUNTED", "OPERATOR", "TaskStore"]

OPERATOR = ""
"""Principal of an operator, who may see and cancel every task; never taken from a request."""
MOST_COUNTED = 1_000_000
"""Tasks that are looked at for a count."""
EVENT_PAGE = 500
"""Events that are read in one command for those who follow a task."""


class TaskStore(Protocol):
    """The tasks of one deployment. What is the same for one Redis and for several is written here."""

    keys: Keys
    shards: tuple[str, ...]
    """Names of the Redis servers; empty where there is only one."""
    feed: TaskFeed
    tails: EventTails
    output: OutputReader
    artifacts: ArtifactReader
    sessions: SessionStore
    caller_states: CallerStateStore
    list_changes: ListChanges
    open_calls: OpenCallStore
    abandoned_calls: AbandonedCallStore
    call_timeouts: CallTimeoutStore
    audit: AuditStream
    counts: TaskCounts
    """What this process has counted; `opening.py` has it written."""

    def new_id(self, queue: str) -> str:
        """A fresh id of a task of this queue."""
        ...

    def pack(self, task_id: str, payload: Mapping[str, Any], *, tool: str, principal: str) -> bytes:
        """Arguments and call context as they will be stored, for a task of this tool and owner.

        Raises:
            PayloadTooLarge: over the limit of the settings.
            BadArguments: they hold something that is not JSON, such as half a surrogate pair.
        """
        ...

    async def create(self, task: NewTask) -> TaskView:
        """Store a task durably and queue it; any replica can read it from now on.

        The view is of `task`, or of an earlier one when its idempotency key was used before. Two calls with the same
        task create one.

        Raises:
            QuotaExceeded: the principal, or all principals together, have too many open tasks.
            IdempotencyKeyReused: the idempotency key stands for another call.
            StoreUnavailable: Redis did not confirm it.
        """
        ...

    async def read(self, task_id: str, principal: str) -> TaskView:
        """One consistent reading, in one round trip.

        Raises:
            TaskNotFound: unknown, expired, or another principal's: one answer for all three.
        """
        ...

    async def find(self, task_id: str, principal: str) -> TaskView | None:
        """`read`, with None for a task that is not there."""
        try:
            return await self.read(task_id, principal)
        except TaskNotFound:
            return None

    async def page(
        self,
        list_owner: str,
        *,
        after: str | None = None,
        limit: int = 50,
        where: TaskFilter = ANY_TASK,
        reads: int = 1,
    ) -> Page:
        """What `list_owner` may list - for `OPERATOR` every task - newest first, in a round trip or two.

        `after`: the `next` of the page before. `where`: only those. `reads`: how many parts of the list are read at
        most, as long as the page is not full; each is a thousand tasks.

        Raises:
            BadCursor: `after` is not a cursor of this owner's list.
        """
        cursors = Cursors(*await self.shared_secrets())
        behind, views, unreachable = cursors.read(list_owner, after), list[TaskView](), tuple[str, ...]()
        for _ in range(reads):
            part = await self.slice(list_owner, behind, limit=limit - len(views), where=where)
            views += part.views
            unreachable = tuple({**dict.fromkeys(unreachable), **dict.fromkeys(part.unreachable)})
            if part.behind is None:
                return Page(tuple(views), None, unreachable)
            behind = part.behind[0].decode(), part.behind[1].decode()
            if len(views) >= limit:
                break
        return Page(tuple(views), cursors.write(list_owner, behind[0].encode(), behind[1].encode()), unreachable)

    async def slice(self, list_owner: str, after: tuple[str, str], *, limit: int, where: TaskFilter) -> Slice:
        """A page by positions: what is behind the entry at `after`, from the beginning where that is empty."""
        ...

    async def dead_letters(
        self, *, after: str | None = None, limit: int = 50, where: TaskFilter = ANY_TASK, reads: int = 1
    ) -> Page:
        """For operators: tasks that broke for good and were not run again, newest first; see `page`."""
        return await self.page(DEAD_LETTERS, after=after, limit=limit, where=where, reads=reads)

    async def count(self, where: TaskFilter) -> int:
        """How many tasks are wanted, for operators, among the latest `MOST_COUNTED`; with shards, those that answer."""
        ...

    async def rerun(
        self,
        task_id: str,
        principal: str,
        *,
        once: str | None = None,
        limits: PrincipalLimits | None = None,
        not_before_ms: int | None = None,
    ) -> TaskView:
        """Run an ended task again: same owner, tool, arguments and queue, another id; the two name each other.

        A second call with the same `once` gives the task that the first one made. `limits`: of the owner, None = as the
        settings say. `not_before_ms`: before when it may not start, None = it may at once, even if the ended one was
        delayed.

        Raises:
            TaskNotFound: unknown, expired, or another principal's.
            NotRepeatable: it has not ended, or it succeeded, so that its arguments were deleted.
            BadArguments: it would have to end before it may start.
            QuotaExceeded: its owner, or all principals together, have too many open tasks.
        """
        again = replace(await self.prepare_rerun(task_id, principal, once=once), limits=limits)
        if not_before_ms is not None:
            check_deadline(not_before_ms, await self.now_ms(), again.deadline)
            again = replace(again, not_before_ms=not_before_ms)
        return await self.create(again)

    async def prepare_rerun(self, task_id: str, principal: str, *, once: str | None = None) -> NewTask:
        """The task that `rerun` creates; raises like it, except for quotas."""
        ...

    async def answer(self, task_id: str, principal: str, answers: Mapping[str, Any]) -> int:
        """Give answers to open questions by key; how many were taken. Unknown and answered keys are passed over.

        Raises:
            TaskNotFound: unknown, expired, or another principal's.
            BadArguments: an answer is not JSON.
        """
        ...

    async def cancel(self, task_id: str, principal: str, *, reason: str = "cancelled") -> bool:
        """Cancel a task at once; False when it had already ended.

        Raises:
            TaskNotFound: unknown, expired, or another principal's.
        """
        ...

    async def history(self, task_id: str, *, after: int = 0, limit: int | None = None) -> list[Event]:
        """The events of a task with numbers above `after`, at most `limit`; empty when there are none."""
        ...

    async def attempt_errors(self, task_id: str) -> dict[int, AttemptError]:
        """Why attempts of a task failed, by number, the last ten at most. For operators only."""
        ...

    async def arguments(self, task: TaskRecord) -> Any:
        """What the tool was called with, as JSON has it; None = they are not kept any more, as the task has succeeded.

        For operators only.

        Raises:
            DecryptionFailed: they cannot be read with these keys, or at all.
        """
        ...

    async def pauses(self) -> list[Pause]:
        """Which queues and tools are paused, sorted; on any shard that answers."""
        ...

    async def pause(self, pause: Pause) -> bool:
        """Start no task of a queue or tool from now on; False if it was paused before: then who and why change.

        Raises:
            StoreUnavailable: it may be paused, or not everywhere; the same call again is safe.
        """
        ...

    async def resume(self, pause: Pause) -> bool:
        """Start tasks of it again, in the order in which they came; False if it was not paused.

        Raises:
            StoreUnavailable: its pause may have ended, or not everywhere; the same call again is safe.
        """
        ...

    async def schedules(self) -> list[KnownSchedule]:
        """The schedules that any worker has had, sorted by name; on any shard that answers."""
        ...

    async def known_queues(self) -> set[str]:
        """The queues that live workers serve or open tasks are in, as Redis has them; of many tasks, the oldest."""
        ...

    async def workers(self) -> list[dict[str, Any]]:
        """What each live worker reports of itself: name, queue, concurrency, running, tools; sorted by name."""
        ...

    async def worker_orders(self, workers: Sequence[Mapping[str, Any]]) -> list[WorkerOrders]:
        """What operators want of each of these workers, which `workers` reported."""
        ...

    async def give_order(self, aspect: str, target: str, order: Order | None, workers: Sequence[str]) -> None:
        """Want something of a worker or of all workers of a host, or take it back; see `worker_orders.give_order`.

        Raises:
            StoreUnavailable: it may have been done, or not everywhere; the same call again is safe.
        """
        ...

    async def undelivered(self, app: str | None, *, limit: int, given_up: bool | None = None) -> list[Delivery]:
        """Webhooks that are not delivered, of one app or (None) of all; the task that ended last comes first.

        `given_up`: only those that are tried no more, or only those that are; None = all.
        """
        ...

    async def delivery(self, task_id: str) -> Delivery | None:
        """The webhook of a task; None if there is none that is not delivered."""
        ...

    async def retry_webhook(self, task_id: str) -> bool:
        """Try the webhook of a task again now, as if the task had just ended; False if there is none undelivered."""
        ...

    async def due(self, queue: str) -> int:
        """How many tasks of a queue a worker could claim now: queued ones, and those that a dead worker had."""
        ...

    async def stats(self, queues: Iterable[str]) -> Stats:
        """Counts of all tasks, in one round trip; `queues`: the names of those to look into."""
        ...

    async def figures(self, app: str) -> Figures:
        """What all processes of an app have counted, by tool."""
        ...

    async def unreachable(self) -> tuple[str, ...]:
        """Names of shards that do not answer; without shards none, see `ping`."""
        ...

    async def shared_secrets(self) -> tuple[bytes, ...]:
        """Secrets that every replica of this deployment knows: the seal keys, else 32 bytes kept in Redis.

        Sign and seal with the first, accept all.
        """
        ...

    def known_secrets(self) -> tuple[bytes, ...]:
        """The same without waiting, once `shared_secrets` has returned; they change when keys are exchanged."""
        ...

    async def now_ms(self) -> int:
        """The store's clock, milliseconds since 1970."""
        ...

    async def ping(self) -> None:
        """Return when Redis answers.

        Raises:
            StoreUnavailable: it does not.
        """
        ...

    async def check_room(self) -> None:
        """Return when new tasks find room.

        Raises:
            StoreFull: they do not; with shards, on any of them.
        """
        ...
