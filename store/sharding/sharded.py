"""The store on several Redis servers: a task is on the shard of its queue, everything else on the default shard.

Each shard is a whole `RedisTaskStore`; here is only which one is asked, and how the answers of several are combined.
A shard that does not answer fails the calls for its own tasks, and is named in what all shards are asked for.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from redis.asyncio import Redis

from taskmill.engine.artifact import Artifact, Chunk
from taskmill.engine.errors import IdempotencyKeyReused, StoreUnavailable
from taskmill.engine.events import AttemptError, Event
from taskmill.engine.principal import new_task_id
from taskmill.engine.record import NewTask, TaskRecord, TaskView
from taskmill.store.artifacts.artifacts import ArtifactReader
from taskmill.store.formats.filters import TaskFilter
from taskmill.store.formats.paging import Slice, merged
from taskmill.store.metrics.counts import TaskCounts
from taskmill.store.metrics.figures import Figures, figures_of_all
from taskmill.store.pubsub.event_tail import EventTails
from taskmill.store.pubsub.hub import ChannelHubs
from taskmill.store.pubsub.task_feed import TaskFeed
from taskmill.store.settings import StoreSettings
from taskmill.store.sharding.keys_of_shards import KeysOfShards
from taskmill.store.sharding.other_shards import OtherShards
from taskmill.store.shards import DEFAULT_SHARD, id_on_shard, shard_of_id
from taskmill.store.tasks.output import OutputReader
from taskmill.store.tasks.pauses import Pause
from taskmill.store.tasks.redis_store import RedisTaskStore
from taskmill.store.tasks.schedules import KnownSchedule, latest_of
from taskmill.store.tasks.stats import Stats, stats_of_all
from taskmill.store.tasks.tasks import EVENT_PAGE, TaskStore
from taskmill.store.tasks.worker_orders import Order, WorkerOrders
from taskmill.store.webhooks.deliveries import Delivery

__all__ = ["ShardedStore"]

T = TypeVar("T")


class ShardedStore(TaskStore):
    """The tasks of one deployment, on several shards."""

    def __init__(self, settings: StoreSettings, clients: Mapping[str, Redis]) -> None:
        """`clients`: by shard, the default shard's among them."""
        self._settings = settings
        self.counts = counts = TaskCounts()
        self._stores = {
            name: RedisTaskStore(client, settings.at_shard(name), counts) for name, client in clients.items()
        }
        self._default = self._stores[DEFAULT_SHARD]
        keys = {name: store.keys for name, store in self._stores.items()}
        self.keys = KeysOfShards(keys)
        self.shards = tuple(self._stores)
        self._other_shards = OtherShards(clients, keys)
        hub = ChannelHubs({name: store.hub for name, store in self._stores.items()}, self._shard_of_channel)
        self.feed = TaskFeed(self.keys, hub)
        self.tails = EventTails(
            self.feed,
            lambda task_id, after: self.history(task_id, after=after, limit=EVENT_PAGE),
            self._default.open_log,
            page=EVENT_PAGE,
        )
        self.output = OutputReader(self._read_output, self.keys, hub)
        self.artifacts = _Artifacts(self)
        self.sessions = self._default.sessions
        self.caller_states = self._default.caller_states
        self.list_changes = self._default.list_changes
        self.open_calls = self._default.open_calls
        self.abandoned_calls = self._default.abandoned_calls
        self.call_timeouts = self._default.call_timeouts
        self.audit = self._default.audit

    def new_id(self, queue: str) -> str:
        """See `TaskStore.new_id`; the id names its shard."""
        return id_on_shard(new_task_id(), self._settings.shard_of(queue))

    def pack(self, task_id: str, payload: Mapping[str, Any], *, tool: str, principal: str) -> bytes:
        """See `TaskStore.pack`; the keys that seal are the same on every shard."""
        return self._default.pack(task_id, payload, tool=tool, principal=principal)

    async def create(self, task: NewTask) -> TaskView:
        """See `TaskStore.create`. Quotas count over all shards, the others by what they replied in the last second."""
        with self.at(task.id) as store:
            if task.idempotency and (earlier := await self._earlier(task)):
                return earlier
            open_there = await self._other_shards.open_tasks(task.principal, except_shard=shard_of_id(task.id))
            return await store.create(task, other_shards=open_there)

    async def read(self, task_id: str, principal: str) -> TaskView:
        """See `TaskStore.read`."""
        with self.at(task_id) as store:
            return await store.read(task_id, principal)

    async def prepare_rerun(self, task_id: str, principal: str, *, once: str | None = None) -> NewTask:
        """See `TaskStore.prepare_rerun`; for the same shard."""
        with self.at(task_id) as store:
            return await store.prepare_rerun(task_id, principal, once=once)

    async def answer(self, task_id: str, principal: str, answers: Mapping[str, Any]) -> int:
        """See `TaskStore.answer`."""
        with self.at(task_id) as store:
            return await store.answer(task_id, principal, answers)

    async def cancel(self, task_id: str, principal: str, *, reason: str = "cancelled") -> bool:
        """See `TaskStore.cancel`."""
        with self.at(task_id) as store:
            return await store.cancel(task_id, principal, reason=reason)

    async def history(self, task_id: str, *, after: int = 0, limit: int | None = None) -> list[Event]:
        """See `TaskStore.history`."""
        with self.at(task_id) as store:
            return await store.history(task_id, after=after, limit=limit)

    async def attempt_errors(self, task_id: str) -> dict[int, AttemptError]:
        """See `TaskStore.attempt_errors`."""
        with self.at(task_id) as store:
            return await store.attempt_errors(task_id)

    async def arguments(self, task: TaskRecord) -> Any:
        """See `TaskStore.arguments`."""
        with self.at(task.id) as store:
            return await store.arguments(task)

    async def slice(self, list_owner: str, after: tuple[str, str], *, limit: int, where: TaskFilter) -> Slice:
        """See `TaskStore.slice`. The shards' lists merged, each in the order of its own clock."""

        async def read(store: TaskStore) -> Slice:
            return await store.slice(list_owner, after, limit=limit, where=where)

        slices, unreachable = await self._ask_all(read)
        return merged(list(slices.values()), limit, unreachable=unreachable)

    async def count(self, where: TaskFilter) -> int:
        """See `TaskStore.count`."""
        return sum((await self._ask_all(lambda store: store.count(where)))[0].values())

    async def pauses(self) -> list[Pause]:
        """See `TaskStore.pauses`."""
        found, _ = await self._ask_all(lambda store: store.pauses())
        known = {pause.field: pause for pauses in found.values() for pause in pauses}
        return [known[name] for name in sorted(known)]

    async def pause(self, pause: Pause) -> bool:
        """See `TaskStore.pause`; on every shard, as queues move and a tool's tasks may be on several."""
        return any(await self._on_every_shard(lambda store: store.pause(pause)))

    async def resume(self, pause: Pause) -> bool:
        """See `TaskStore.resume`."""
        return any(await self._on_every_shard(lambda store: store.resume(pause)))

    async def schedules(self) -> list[KnownSchedule]:
        """See `TaskStore.schedules`."""
        found, _ = await self._ask_all(lambda store: store.schedules())
        return latest_of([one for part in found.values() for one in part])

    async def known_queues(self) -> set[str]:
        """See `TaskStore.known_queues`; of the shards that answer."""
        found, _ = await self._ask_all(lambda store: store.known_queues())
        return set().union(*found.values())

    async def workers(self) -> list[dict[str, Any]]:
        """See `TaskStore.workers`; those of shards that answer, with the shard's name."""
        found, _ = await self._ask_all(lambda store: store.workers())
        return [{"shard": shard, **worker} for shard, workers in found.items() for worker in workers]

    async def worker_orders(self, workers: Sequence[Mapping[str, Any]]) -> list[WorkerOrders]:
        """See `TaskStore.worker_orders`; each on the shard of the worker."""
        found = [await self._stores[str(one.get("shard", DEFAULT_SHARD))].worker_orders([one]) for one in workers]
        return [orders for (orders,) in found]

    async def give_order(self, aspect: str, target: str, order: Order | None, workers: Sequence[str]) -> None:
        """See `TaskStore.give_order`; on every shard, as a host may have workers of several."""
        await self._on_every_shard(lambda store: store.give_order(aspect, target, order, workers))

    async def undelivered(self, app: str | None, *, limit: int, given_up: bool | None = None) -> list[Delivery]:
        """See `TaskStore.undelivered`; of the shards that answer."""
        found, _ = await self._ask_all(lambda store: store.undelivered(app, limit=limit, given_up=given_up))
        every = [one for some in found.values() for one in some]
        return sorted(every, key=lambda one: one.view.record.ended_ms or 0, reverse=True)[:limit]

    async def delivery(self, task_id: str) -> Delivery | None:
        """See `TaskStore.delivery`."""
        with self.at(task_id) as store:
            return await store.delivery(task_id)

    async def retry_webhook(self, task_id: str) -> bool:
        """See `TaskStore.retry_webhook`."""
        with self.at(task_id) as store:
            return await store.retry_webhook(task_id)

    async def due(self, queue: str) -> int:
        """See `TaskStore.due`; on the shard where the queue is now."""
        with self._shard(self._settings.shard_of(queue)) as store:
            return await store.due(queue)

    async def stats(self, queues: Iterable[str]) -> Stats:
        """See `TaskStore.stats`; the sums of the shards that answer."""
        known = sorted(set(queues))
        parts, unreachable = await self._ask_all(lambda store: store.stats(known))
        return stats_of_all(list(parts.values()), unreachable)

    async def figures(self, app: str) -> Figures:
        """See `TaskStore.figures`; the sums of the shards that answer."""
        parts, _ = await self._ask_all(lambda store: store.figures(app))
        return figures_of_all(parts.values())

    async def unreachable(self) -> tuple[str, ...]:
        """See `TaskStore.unreachable`."""
        return (await self._ask_all(lambda store: store.ping()))[1]

    async def shared_secrets(self) -> tuple[bytes, ...]:
        """See `TaskStore.shared_secrets`; the default shard keeps them."""
        return await self._default.shared_secrets()

    def known_secrets(self) -> tuple[bytes, ...]:
        """See `TaskStore.known_secrets`."""
        return self._default.known_secrets()

    async def now_ms(self) -> int:
        """See `TaskStore.now_ms`; the default shard's clock."""
        return await self._default.now_ms()

    async def ping(self) -> None:
        """See `TaskStore.ping`; of the default shard, see `unreachable` for the others."""
        await self._default.ping()

    async def check_room(self) -> None:
        """See `TaskStore.check_room`."""
        for name in self._stores:
            with self._shard(name) as store:
                await store.check_room()

    @contextmanager
    def at(self, task_id: str) -> Iterator[RedisTaskStore]:
        """The store of one task's shard.

        Raises:
            StoreUnavailable: it does not answer; the message names the shard.
        """
        shard = shard_of_id(task_id)
        with self._shard(shard if shard in self._stores else DEFAULT_SHARD) as store:
            yield store

    @contextmanager
    def _shard(self, name: str) -> Iterator[RedisTaskStore]:
        try:
            yield self._stores[name]
        except StoreUnavailable as exc:
            raise type(exc)(f"Shard {name}: {exc}", **{**exc.facts, "shard": name}) from exc

    async def _read_output(self, task_id: str, *, after: int = 0, count: int = 1000) -> list[Chunk]:
        with self.at(task_id) as store:
            return await store.output.read(task_id, after=after, count=count)

    async def _earlier(self, task: NewTask) -> TaskView | None:
        """The task that has this idempotency key on another shard, where the queue was before it moved.

        Raises:
            IdempotencyKeyReused: the key stands for another call there.
        """
        key = f"{task.principal}:{task.idempotency}"
        for task_id, digest in await self._other_shards.tasks_of_key(key, except_shard=shard_of_id(task.id)):
            view = await self.find(task_id, task.principal)
            if view is not None and digest != task.idempotency_of:
                raise IdempotencyKeyReused(task_id=task_id)
            if view is not None:
                return view
        return None

    async def _ask_all(self, ask: Callable[[TaskStore], Awaitable[T]]) -> tuple[dict[str, T], tuple[str, ...]]:
        """What each shard answers by name, and the names of those that do not.

        Raises:
            StoreUnavailable: none does.
        """
        replies = await asyncio.gather(*map(ask, self._stores.values()), return_exceptions=True)
        answered: dict[str, T] = {}
        unreachable: list[str] = []
        for shard, reply in zip(self._stores, replies, strict=True):
            if isinstance(reply, StoreUnavailable):
                unreachable.append(shard)
            elif isinstance(reply, BaseException):
                raise reply
            else:
                answered[shard] = reply
        if not answered:
            raise StoreUnavailable("No shard can be reached right now. Nothing was lost; try again in a moment.")
        return answered, tuple(unreachable)

    async def _on_every_shard(self, ask: Callable[[TaskStore], Awaitable[T]]) -> list[T]:
        """What each shard answers.

        Raises:
            StoreUnavailable: one does not; the message names it, and the others have done what was asked.
        """
        found, unreachable = await self._ask_all(ask)
        if unreachable:
            names = ", ".join(unreachable)
            raise StoreUnavailable(f"Shard {names} does not answer; the others have done it. Try again in a moment.")
        return list(found.values())

    def _shard_of_channel(self, channel: str) -> str:
        shard = shard_of_id(channel.partition("}:")[2])
        return shard if shard in self._stores else DEFAULT_SHARD


class _Artifacts(ArtifactReader):
    """Artifacts of every shard, for readers: an artifact's id names its task's shard."""

    def __init__(self, store: ShardedStore) -> None:
        self._store = store

    async def find(self, artifact_id: str, principal: str) -> Artifact:
        """See `ArtifactReader.find`."""
        with self._store.at(artifact_id) as store:
            return await store.artifacts.find(artifact_id, principal)

    async def read(self, artifact: Artifact, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """See `ArtifactReader.read`."""
        with self._store.at(artifact.id) as store:
            async for piece in store.artifacts.read(artifact, start, stop):
                yield piece
