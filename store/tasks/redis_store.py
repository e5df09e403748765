"""The store on one Redis: create, read, answer, cancel, history. What each method promises is in `tasks.py`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from redis.asyncio import Redis

from taskmill.engine.errors import TaskNotFound
from taskmill.engine.events import AttemptError, Event
from taskmill.engine.principal import new_task_id
from taskmill.engine.record import NewTask, TaskRecord, TaskView
from taskmill.store.artifacts.artifacts import ArtifactStore
from taskmill.store.audit.stream import AuditStream
from taskmill.store.connection.client import store_errors
from taskmill.store.connection.memory import MemoryWatch, check_room
from taskmill.store.formats.attempt_errors import errors_for_caller, may_have_errors, open_error
from taskmill.store.formats.events import event_of
from taskmill.store.formats.filters import TaskFilter
from taskmill.store.formats.keys import DEAD_LETTERS
from taskmill.store.formats.log_messages import unpack_log
from taskmill.store.formats.paging import Slice, page_args, page_size
from taskmill.store.formats.sealing import args_field
from taskmill.store.formats.views import UNREADABLE, is_unreadable, progress_message, slice_of, view_of
from taskmill.store.metrics.counts import Counted, TaskCounts
from taskmill.store.metrics.figures import Figures, figures_of
from taskmill.store.pubsub.event_tail import EventTails
from taskmill.store.pubsub.hub import ChannelHub
from taskmill.store.pubsub.task_feed import TaskFeed
from taskmill.store.scripts import Scripts
from taskmill.store.seal_keys import sealer_of
from taskmill.store.sessions.caller_state import CallerStateStore
from taskmill.store.sessions.list_changes import ListChanges
from taskmill.store.sessions.open_calls import AbandonedCallStore, CallTimeoutStore, OpenCallStore
from taskmill.store.sessions.sessions import SessionStore
from taskmill.store.settings import StoreSettings
from taskmill.store.shards import id_on_same_shard
from taskmill.store.tasks.creation import create_args, create_error, new_record, pack_arguments, sealed_answers
from taskmill.store.tasks.creation_batches import CreationBatches
from taskmill.store.tasks.output import OutputReader, OutputStore
from taskmill.store.tasks.pauses import Pause, PauseStore
from taskmill.store.tasks.rerun import check_rerunnable, rerun_id, rerun_task
from taskmill.store.tasks.schedules import KnownSchedule, ScheduleStore
from taskmill.store.tasks.search import count_tasks, search_slice
from taskmill.store.tasks.shared_secret import SharedSecret
from taskmill.store.tasks.stats import Stats, live_workers, stats_of
from taskmill.store.tasks.tasks import EVENT_PAGE, MOST_COUNTED, TaskStore
from taskmill.store.tasks.wait_estimate import WaitEstimate
from taskmill.store.tasks.worker_orders import Order, WorkerOrders, give_order, read_orders
from taskmill.store.webhooks.deliveries import Delivery, DeliveryStore

__all__ = ["RedisTaskStore"]

_NOT_TRIMMED = 10_000
"""HISTORY of `lua/prelude.lua`: in a history with fewer events, the one of number n is in place n."""
_STATES_READ = 5000
"""Tasks of a queue whose state `stats` looks up, at most, besides those that wait."""


class RedisTaskStore(TaskStore):
    """The tasks on one Redis."""

    def __init__(self, redis: Redis, settings: StoreSettings, counts: TaskCounts | None = None) -> None:
        """`counts`: where created tasks are counted; None = on its own."""
        self._redis = redis
        self.counts = TaskCounts() if counts is None else counts
        self._settings = settings
        self.keys = settings.keys()
        self.shards = ()
        self._scripts = Scripts(self.keys)
        self._sealer = sealer_of(settings)
        self._creations = CreationBatches(redis, self._scripts, self.keys)
        self._pauses = PauseStore(redis, self._scripts, self.keys)
        self.scheduling = ScheduleStore(redis, self._scripts, self.keys)
        self.memory = MemoryWatch(redis)
        self._secret = SharedSecret(redis, self._sealer.ring, self.keys)
        self._wait_estimate = WaitEstimate(self.workers)
        self.hub = ChannelHub(settings, self.keys.record(""))
        self.feed = TaskFeed(self.keys, self.hub)
        self.open_log = partial(unpack_log, self._sealer)
        """The log messages in what a task has published."""
        self.tails = EventTails(
            self.feed,
            lambda task_id, after: self.history(task_id, after=after, limit=EVENT_PAGE),
            self.open_log,
            page=EVENT_PAGE,
        )
        self.output = OutputReader(OutputStore(redis, settings, self._scripts).read, self.keys, self.hub)
        self.artifacts: ArtifactStore = ArtifactStore(redis, settings, self._scripts)
        self.sessions = SessionStore(redis, settings, self._scripts, self.keys, self.hub, self.memory)
        self.caller_states = CallerStateStore(redis, settings, self._scripts)
        self.list_changes = ListChanges(redis, settings, self.hub)
        self.open_calls = OpenCallStore(redis, settings, self.keys, self.hub)
        self.abandoned_calls = AbandonedCallStore(redis, self.keys)
        self.call_timeouts = CallTimeoutStore(redis, self.keys)
        self.audit = AuditStream(redis, settings, self.keys)
        self._webhooks = DeliveryStore(redis, settings, self._scripts, self.keys)

    def new_id(self, queue: str) -> str:
        """See `TaskStore.new_id`."""
        return new_task_id()

    def pack(self, task_id: str, payload: Mapping[str, Any], *, tool: str, principal: str) -> bytes:
        """See `TaskStore.pack`."""
        limit = self._settings.max_arguments
        return pack_arguments(self._sealer, limit, task_id, payload, tool=tool, principal=principal)

    async def create(self, task: NewTask, *, other_shards: tuple[int, int] = (0, 0)) -> TaskView:
        """See `TaskStore.create`. `other_shards`: open tasks there, of the principal and of all principals."""
        if self._sealer.has_keys:
            task = replace(task, client_name="")  # a name that lists are narrowed by stands in clear
        reply = await self._create(task, other_shards)
        if reply[0] == b"exists":
            return await self.read(reply[1].decode(), task.principal)
        if reply[0] != b"created":
            raise create_error(reply, task, self._settings)
        self.counts.add(Counted.CREATED, task.queue, task.tool, task.client)
        if task.from_own_queue:
            self._wait_estimate.note_own_queue(task.id)
        return TaskView(new_record(task, self._settings, reply[3]), ahead=reply[2] if reply[2] >= 0 else None)

    async def fire(self, task: NewTask) -> bool:
        """Create the task of its firing, unless a worker has done that; whether this call did.

        Raises:
            QuotaExceeded, StoreFull, StoreUnavailable: see `create`; the firing is still to be made.
        """
        reply = await self._create(task, (0, 0))
        if reply[0] not in (b"created", b"exists", b"fired"):
            raise create_error(reply, task, self._settings)
        is_first = bool(reply[0] == b"created")
        if is_first:
            self.counts.add(Counted.CREATED, task.queue, task.tool, task.client)
        return is_first

    async def _create(self, task: NewTask, other_shards: tuple[int, int]) -> Any:
        """What the script replies."""
        memory = await self.memory.read()
        check_room(memory, self._settings.redis_full_at)
        signed = self._sealer.sign(task.id, task.principal, task.tool, task.listed_for)
        args = create_args(task, self._settings, other_shards, memory, signed=signed)
        with store_errors():
            return await self._creations.create(task.id, task.payload, args)

    async def read(self, task_id: str, principal: str) -> TaskView:
        """See `TaskStore.read`."""
        keys = [self.keys.record(task_id), self.keys.result(task_id), self.keys.inputs(task_id)]
        reply = await self._run("read", keys, [task_id, principal])
        if reply is None:
            raise TaskNotFound(task_id=task_id)
        record, outcome, questions, ahead = reply
        view = view_of(task_id, self._sealer, record=record, outcome=outcome, questions=questions, ahead=ahead)
        await self._mark(view, is_marked=UNREADABLE.encode() in record[::2])
        if principal and self._settings.caller_errors != "none" and may_have_errors(view.record):
            with_traceback = self._settings.caller_errors == "traceback"
            errors = errors_for_caller(await self.attempt_errors(task_id), with_traceback=with_traceback)
            view = replace(view, errors=errors)
        return await self._wait_estimate.apply_to(view)

    async def _mark(self, view: TaskView, *, is_marked: bool) -> None:
        """Note for lists, which read no results, that this process refuses a result; or that it is good after all."""
        is_refused = is_unreadable(view.outcome)
        if is_refused != is_marked and view.record.is_terminal and self._sealer.has_keys:
            await self._run("mark_unreadable", [self.keys.record(view.record.id)], [int(is_refused)])

    async def slice(self, list_owner: str, after: tuple[str, str], *, limit: int, where: TaskFilter) -> Slice:
        """See `TaskStore.slice`."""
        keys = [self.keys.list(list_owner) if list_owner else self.keys.all]
        most, args = page_size(limit), partial(page_args, where=where, is_by_end=list_owner == DEAD_LETTERS)
        run = partial(self._run, "page", keys)
        if where.text is None:
            return slice_of(await run(args(after, most)), self._sealer, list_owner)
        return await search_slice(run, args, self._sealer, list_owner, after, most, where.text)

    async def count(self, where: TaskFilter) -> int:
        """See `TaskStore.count`."""
        run, args = partial(self._run, "page", [self.keys.all]), partial(page_args, where=where)
        return await count_tasks(run, args, self._sealer, where.text, MOST_COUNTED)

    async def prepare_rerun(self, task_id: str, principal: str, *, once: str | None = None) -> NewTask:
        """See `TaskStore.prepare_rerun`."""
        record = (await self.read(task_id, principal)).record
        with store_errors():
            stored = await self._redis.get(self.keys.args(task_id))
            kept: Any = await self._redis.hmget(self.keys.record(task_id), ["listed_for", "webhook"])  # type: ignore[misc]
        check_rerunnable(record, stored)
        again = await self._rerun_id(task_id, once) if once else id_on_same_shard(task_id, new_task_id())
        whose = {"tool": record.tool, "principal": record.principal}
        payload = self.pack(again, self._sealer.open(stored, task_id=task_id, field=args_field(**whose)), **whose)
        list_owner, webhook = ((value or b"").decode() for value in kept)
        return rerun_task(record, again, payload, listed_for=list_owner, webhook=webhook)

    async def _rerun_id(self, task_id: str, once: str) -> str:
        """The id of a rerun: of the one that a replica with another first key has made, if there is one."""
        ids = [id_on_same_shard(task_id, rerun_id(secret, task_id, once)) for secret in await self.shared_secrets()]
        with store_errors():
            made = [other for other in ids[1:] if await self._redis.exists(self.keys.record(other))]
        return made[0] if made else ids[0]

    async def answer(self, task_id: str, principal: str, answers: Mapping[str, Any]) -> int:
        """See `TaskStore.answer`."""
        sealed = sealed_answers(self._sealer, task_id, answers)
        reply = await self._run("answer", [self.keys.inputs(task_id)], [task_id, principal, *sealed])
        if reply == b"missing":
            raise TaskNotFound(task_id=task_id)
        return 0 if reply == b"ended" else int(reply)

    async def cancel(self, task_id: str, principal: str, *, reason: str = "cancelled") -> bool:
        """See `TaskStore.cancel`."""
        reply = await self._run("cancel", [self.keys.record(task_id)], [task_id, principal, reason])
        if reply == b"missing":
            raise TaskNotFound(task_id=task_id)
        return bool(reply == b"cancelled")

    async def history(self, task_id: str, *, after: int = 0, limit: int | None = None) -> list[Event]:
        """See `TaskStore.history`."""
        key, most = self.keys.events(task_id), -1 if limit is None else limit
        if after < _NOT_TRIMMED:
            with store_errors():
                entries: Any = await self._redis.lrange(key, after, -1 if limit is None else after + limit - 1)  # type: ignore[misc]
            events = [self._event(task_id, entry) for entry in entries]
            if not events or events[0].seq == after + 1:
                return events
        entries = await self._run("history", [key], [after, most])
        return [self._event(task_id, entry) for entry in entries]

    def _event(self, task_id: str, packed: bytes) -> Event:
        event = event_of(task_id, packed)
        message = event.facts.get("message")
        if not message:
            return event
        opened = progress_message(self._sealer, task_id, message)
        return event if opened == message else replace(event, facts={**event.facts, "message": opened})

    async def attempt_errors(self, task_id: str) -> dict[int, AttemptError]:
        """See `TaskStore.attempt_errors`."""
        with store_errors():
            kept: Any = await self._redis.hgetall(self.keys.errors(task_id))  # type: ignore[misc]
        return {
            int(attempt): open_error(self._sealer, task_id, int(attempt), stored) for attempt, stored in kept.items()
        }

    async def arguments(self, task: TaskRecord) -> Any:
        """See `TaskStore.arguments`."""
        with store_errors():
            stored = await self._redis.get(self.keys.args(task.id))
        if stored is None:
            return None
        return self._sealer.open(stored, task_id=task.id, field=args_field(task.tool, task.principal))["arguments"]

    async def pauses(self) -> list[Pause]:
        """See `TaskStore.pauses`."""
        return await self._pauses.read()

    async def pause(self, pause: Pause) -> bool:
        """See `TaskStore.pause`."""
        return await self._pauses.pause(pause)

    async def resume(self, pause: Pause) -> bool:
        """See `TaskStore.resume`."""
        return await self._pauses.resume(pause)

    async def schedules(self) -> list[KnownSchedule]:
        """See `TaskStore.schedules`."""
        return await self.scheduling.read()

    async def known_queues(self) -> set[str]:
        """See `TaskStore.known_queues`."""
        return await self._pauses.known_queues()

    async def workers(self) -> list[dict[str, Any]]:
        """See `TaskStore.workers`."""
        with store_errors():
            return await live_workers(self._redis, self.keys)

    async def worker_orders(self, workers: Sequence[Mapping[str, Any]]) -> list[WorkerOrders]:
        """See `TaskStore.worker_orders`."""
        with store_errors():
            return await read_orders(self._redis, self.keys, workers)

    async def give_order(self, aspect: str, target: str, order: Order | None, workers: Sequence[str]) -> None:
        """See `TaskStore.give_order`."""
        await give_order(self._redis, self.keys, aspect, target, order, workers)

    async def undelivered(self, app: str | None, *, limit: int, given_up: bool | None = None) -> list[Delivery]:
        """See `TaskStore.undelivered`."""
        return await self._webhooks.undelivered(app, limit=limit, given_up=given_up)

    async def delivery(self, task_id: str) -> Delivery | None:
        """See `TaskStore.delivery`."""
        return await self._webhooks.find(task_id)

    async def retry_webhook(self, task_id: str) -> bool:
        """See `TaskStore.retry_webhook`."""
        return await self._webhooks.retry(task_id)

    async def due(self, queue: str) -> int:
        """See `TaskStore.due`."""
        with store_errors():
            return int(await self._redis.zcount(self.keys.queue(queue), "-inf", await self.now_ms()))

    async def stats(self, queues: Iterable[str]) -> Stats:
        """See `TaskStore.stats`."""
        return stats_of(await self._run("stats", [], [_STATES_READ, *sorted(set(queues))]))

    async def figures(self, app: str) -> Figures:
        """See `TaskStore.figures`."""
        with store_errors():
            kept: Any = await self._redis.hgetall(self.keys.figures(app))  # type: ignore[misc]
        return figures_of(kept)

    async def unreachable(self) -> tuple[str, ...]:
        """See `TaskStore.unreachable`."""
        return ()

    async def shared_secrets(self) -> tuple[bytes, ...]:
        """See `TaskStore.shared_secrets`."""
        return await self._secret.read()

    def known_secrets(self) -> tuple[bytes, ...]:
        """See `TaskStore.known_secrets`."""
        return self._secret.known

    async def now_ms(self) -> int:
        """See `TaskStore.now_ms`."""
        with store_errors():
            seconds, micros = await self._redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def ping(self) -> None:
        """See `TaskStore.ping`."""
        with store_errors():
            await self._redis.ping()

    async def check_room(self) -> None:
        """See `TaskStore.check_room`."""
        check_room(await self.memory.read(), self._settings.redis_full_at)

    async def _run(self, name: str, keys: list[str], args: list[Any]) -> Any:
        with store_errors():
            return await self._scripts.run(self._redis, name, keys, args)
