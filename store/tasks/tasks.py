"""The store as servers and operators use it: create, look, answer, cancel, history.

What workers do (claim, renew, finish...) is in `claims.py`.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from redis.asyncio import Redis

from taskmill.engine.errors import TaskNotFound
from taskmill.engine.events import Event
from taskmill.engine.principal import new_task_id
from taskmill.engine.record import NewTask, TaskView
from taskmill.engine.status import Status
from taskmill.store.artifacts.artifacts import ArtifactStore
from taskmill.store.connection.client import store_errors
from taskmill.store.formats.keys import DEAD_LETTERS, Keys
from taskmill.store.formats.paging import Cursors, Page, Slice, page_args
from taskmill.store.formats.records import event_of
from taskmill.store.formats.sealing import Sealer
from taskmill.store.formats.views import slice_of, view_of
from taskmill.store.pubsub.event_tail import EventTails
from taskmill.store.pubsub.hub import ChannelHub
from taskmill.store.pubsub.task_feed import TaskFeed
from taskmill.store.scripts import Scripts
from taskmill.store.sessions.open_calls import AbandonedCallStore, OpenCallStore
from taskmill.store.sessions.sessions import SessionStore
from taskmill.store.settings import StoreSettings
from taskmill.store.shards import at_shard_of
from taskmill.store.tasks.creation import creation, new_record, packed, refusal, sealed_answers
from taskmill.store.tasks.output import OutputStore
from taskmill.store.tasks.rerun import check_repeatable, repeated, rerun_id
from taskmill.store.tasks.shared_secret import SharedSecret
from taskmill.store.tasks.stats import Stats, live_workers, stats_of
from taskmill.store.tasks.wait_estimate import WaitEstimate

__all__ = ["CHUNK", "OPERATOR", "TaskStore"]

OPERATOR = ""
"""Principal of somebody who may see and cancel every task; never taken from a request."""
_COUNTED = 5000
"""Tasks of a queue whose state a census looks up, at most, beside those that wait."""
CHUNK = 500
"""Events that are read at a time for those who follow a task."""


class TaskStore:
    """The tasks of one deployment, from the outside."""

    shards: tuple[str, ...] = ()
    """Names of the Redis servers, where there are several."""

    def __init__(self, redis: Redis, settings: StoreSettings) -> None:
        self._redis = redis
        self._settings = settings
        self.keys = Keys(settings.prefix)
        self._scripts = Scripts(self.keys)
        self._sealer = Sealer(settings.seal_keys)
        self._secret = SharedSecret(redis, settings, self.keys)
        self.hub = ChannelHub(settings, self.keys.record(""))
        self.feed = TaskFeed(settings, self.keys, self.hub)
        self.output = OutputStore(redis, settings, self._scripts, self.hub)
        self.artifacts = ArtifactStore(redis, settings, self._scripts)
        self.sessions = SessionStore(redis, settings, self._scripts, self.keys, self.hub)
        self.open_calls = OpenCallStore(redis, settings, self.keys, self.hub)
        self._outlook = WaitEstimate(self.workers)
        self.abandoned_calls = AbandonedCallStore(redis, self.keys)
        self.tails = EventTails(self.feed, lambda task_id, after: self.history(task_id, after=after, limit=CHUNK))

    def new_id(self, queue: str) -> str:
        """A fresh id of a task of this queue."""
        return new_task_id()

    def pack(self, task_id: str, payload: Mapping[str, Any]) -> bytes:
        """Arguments and call context as they will be stored.

        Raises:
            PayloadTooLarge: over the limit of the settings.
            BadArguments: they hold something that is not JSON, such as half a surrogate pair.
        """
        return packed(self._sealer, self._settings.max_arguments, task_id, payload)

    async def create(self, task: NewTask, *, elsewhere: tuple[int, int] = (0, 0)) -> TaskView:
        """Store a task for good and queue it; any replica can read it from now on.

        The view is of `task`, or of an earlier one when its idempotency key was used before. Calling it twice with
        the same task creates one. `elsewhere`: open tasks of the principal, and of everybody, that are kept elsewhere.

        Raises:
            QuotaExceeded: the principal, or everybody, has too many open tasks.
            KeyReused: the idempotency key stands for another call.
            StoreUnavailable: Redis did not confirm it.
        """
        reply = await self._run("create", [self.keys.record(task.id)], creation(task, self._settings, elsewhere))
        if reply[0] == b"exists":
            return await self.read(reply[1].decode(), task.principal)
        if reply[0] != b"created":
            raise refusal(reply, self._settings)
        return TaskView(new_record(task, self._settings, reply[3]), ahead=reply[2])

    async def read(self, task_id: str, principal: str) -> TaskView:
        """One consistent reading, in one round trip.

        Raises:
            TaskNotFound: unknown, expired, or somebody else's: one answer for all three.
        """
        keys = [self.keys.record(task_id), self.keys.result(task_id), self.keys.inputs(task_id)]
        reply = await self._run("read", keys, [task_id, principal])
        if reply is None:
            raise TaskNotFound(task_id=task_id)
        record, outcome, questions, ahead = reply
        view = view_of(task_id, self._sealer, record=record, outcome=outcome, questions=questions, ahead=ahead)
        return await self._outlook.on(view)

    async def find(self, task_id: str, principal: str) -> TaskView | None:
        """`read`, with None for a task that is not there."""
        try:
            return await self.read(task_id, principal)
        except TaskNotFound:
            return None

    async def page(
        self,
        lister: str,
        *,
        after: str | None = None,
        limit: int = 50,
        statuses: Collection[Status] = (),
        tool: str | None = None,
    ) -> Page:
        """What `lister` may list - for `OPERATOR` every task - newest first, in one round trip.

        `after`: the `next` of the page before. `statuses` and `tool`: only those; empty or None = any.

        Raises:
            BadCursor: `after` is not a cursor of this lister's list.
        """
        cursors = Cursors(await self.shared_secret())
        behind = cursors.read(lister, after)
        part = await self.slice(lister, behind, limit=limit, statuses=statuses, tool=tool)
        return Page(part.views, cursors.write(lister, *part.behind) if part.behind else None, part.unreachable)

    async def slice(
        self, lister: str, after: tuple[str, str], *, limit: int, statuses: Collection[Status], tool: str | None
    ) -> Slice:
        """A page by places: what is behind the entry at `after`, from the beginning where that is empty."""
        args = page_args(after, limit, statuses, tool)
        return slice_of(
            await self._run("page", [self.keys.list(lister) if lister else self.keys.all], args), self._sealer
        )

    async def dead_letters(self, *, after: str | None = None, limit: int = 50, tool: str | None = None) -> Page:
        """For operators: tasks that broke for good and were not run again, newest first; see `page`."""
        return await self.page(DEAD_LETTERS, after=after, limit=limit, tool=tool)

    async def rerun(self, task_id: str, principal: str, *, once: str | None = None) -> TaskView:
        """Run an ended task again: same owner, tool, arguments and queue, another id; the two name each other.

        Saying it again with the same `once` gives the task that the first one made.

        Raises:
            TaskNotFound: unknown, expired, or somebody else's.
            NotRepeatable: it has not ended, or it succeeded, so that its arguments are gone.
            QuotaExceeded: its owner, or everybody, has too many open tasks.
        """
        return await self.create(await self.repetition(task_id, principal, once=once))

    async def repetition(self, task_id: str, principal: str, *, once: str | None = None) -> NewTask:
        """The task that `rerun` creates; raises like it, but for quotas."""
        record = (await self.read(task_id, principal)).record
        with store_errors():
            stored = await self._redis.get(self.keys.args(task_id))
            lister: Any = await self._redis.hget(self.keys.record(task_id), "listed_for")  # type: ignore[misc]
        check_repeatable(record, stored)
        again = at_shard_of(task_id, rerun_id(await self.shared_secret(), task_id, once) if once else new_task_id())
        payload = self.pack(again, self._sealer.open(stored, task_id=task_id, field="args"))
        return repeated(record, again, payload, listed_for=(lister or b"").decode())

    async def answer(self, task_id: str, principal: str, answers: Mapping[str, Any]) -> int:
        """Give answers to open questions by key; how many were taken. Unknown and answered keys are passed over.

        Raises:
            TaskNotFound: unknown, expired, or somebody else's.
            BadArguments: an answer is not JSON.
        """
        sealed = sealed_answers(self._sealer, task_id, answers)
        reply = await self._run("answer", [self.keys.inputs(task_id)], [task_id, principal, *sealed])
        if reply == b"missing":
            raise TaskNotFound(task_id=task_id)
        return 0 if reply == b"ended" else int(reply)

    async def cancel(self, task_id: str, principal: str, *, reason: str = "cancelled") -> bool:
        """Cancel a task at once; False when it had already ended.

        Raises:
            TaskNotFound: unknown, expired, or somebody else's.
        """
        reply = await self._run("cancel", [self.keys.record(task_id)], [task_id, principal, reason])
        if reply == b"missing":
            raise TaskNotFound(task_id=task_id)
        return bool(reply == b"cancelled")

    async def history(self, task_id: str, *, after: int = 0, limit: int | None = None) -> list[Event]:
        """The events of a task with numbers above `after`, at most `limit`; empty when there are none."""
        with store_errors():
            entries = await self._redis.xrange(self.keys.events(task_id), min=f"({after}-0", count=limit)
        return [event_of(entry_id, field) for entry_id, field in entries]

    async def workers(self) -> list[dict[str, Any]]:
        """What each live worker says of itself: name, queue, concurrency, running, tools; sorted by name."""
        with store_errors():
            return await live_workers(self._redis, self.keys)

    async def due(self, queue: str) -> int:
        """How many tasks of a queue a worker could claim now: queued ones, and those that a dead worker held."""
        with store_errors():
            return int(await self._redis.zcount(self.keys.queue(queue), "-inf", await self.now_ms()))

    async def stats(self, queues: Iterable[str]) -> Stats:
        """Counts of all tasks, in one round trip; `queues`: the names of those to look into."""
        return stats_of(await self._run("stats", [], [_COUNTED, *sorted(set(queues))]))

    async def unreachable(self) -> tuple[str, ...]:
        """Names of shards that do not answer; without shards none, see `ping`."""
        return ()

    async def shared_secret(self) -> bytes:
        """A secret that every replica of this deployment knows: the first seal key, else 32 bytes kept in Redis."""
        return await self._secret.read()

    async def now_ms(self) -> int:
        """The store's clock, milliseconds since 1970."""
        with store_errors():
            seconds, micros = await self._redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def ping(self) -> None:
        """Return when Redis answers.

        Raises:
            StoreUnavailable: it does not.
        """
        with store_errors():
            await self._redis.ping()

    async def _run(self, name: str, keys: list[str], args: list[Any]) -> Any:
        with store_errors():
            return await self._scripts.run(self._redis, name, keys, args)
