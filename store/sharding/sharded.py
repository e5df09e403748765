"""The store on several Redis servers: what is a task's is on the shard of its queue, everything else at home.

Each shard is a whole `TaskStore`; here is only which one is asked, and what several say together. A shard that does
not answer fails the calls for its own tasks, and is named in what all shards are asked for.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from redis.asyncio import Redis

from taskmill.engine.artifact import Artifact, Chunk
from taskmill.engine.errors import IdempotencyKeyReused, StoreUnavailable
from taskmill.engine.events import Event
from taskmill.engine.principal import new_task_id
from taskmill.engine.record import NewTask, TaskView
from taskmill.engine.status import Status
from taskmill.store.artifacts.artifacts import ArtifactStore
from taskmill.store.formats.paging import Slice, merged
from taskmill.store.pubsub.event_tail import EventTails
from taskmill.store.pubsub.hub import ChannelHubs
from taskmill.store.pubsub.task_feed import TaskFeed
from taskmill.store.settings import StoreSettings
from taskmill.store.sharding.other_shards import OtherShards
from taskmill.store.shards import HOME, marked, shard_in
from taskmill.store.tasks.output import OutputStore
from taskmill.store.tasks.stats import Stats, stats_of_all
from taskmill.store.tasks.tasks import CHUNK, TaskStore

__all__ = ["ShardedStore"]

T = TypeVar("T")


class ShardedStore(TaskStore):
    """The tasks of one deployment, on several shards."""

    def __init__(self, redis: Redis, settings: StoreSettings, others: Mapping[str, Redis]) -> None:
        """`redis`: the one at home; `others`: the others by shard."""
        super().__init__(redis, settings)
        clients = {HOME: redis, **others}
        self._stores = {name: TaskStore(client, settings.at_shard(name)) for name, client in clients.items()}
        self.shards = tuple(self._stores)
        self._elsewhere = OtherShards(clients, self.keys)
        boards = {name: store.hub for name, store in self._stores.items()}
        self.hub = ChannelHubs(boards, self._shard_of_channel)
        self.feed = TaskFeed(settings, self.keys, self.hub)
        self.output = _Output(self)
        self.artifacts = _Artifacts(self)
        self.tails = EventTails(self.feed, lambda task_id, after: self.history(task_id, after=after, limit=CHUNK))
        home = self._stores[HOME]
        self.sessions, self.open_calls, self.abandoned_calls = home.sessions, home.open_calls, home.abandoned_calls

    def new_id(self, queue: str) -> str:
        """A fresh id of a task of this queue, with the mark of its shard."""
        return marked(new_task_id(), self._settings.shard_of(queue))

    async def create(self, task: NewTask, *, elsewhere: tuple[int, int] = (0, 0)) -> TaskView:
        """See `TaskStore.create`. Quotas count over all shards, others by what they said in the last second."""
        with self.at(task.id) as store:
            if task.idempotency and (earlier := await self._earlier(task)):
                return earlier
            counted = await self._elsewhere.counts(task.principal, but=shard_in(task.id))
            return await store.create(task, elsewhere=counted)

    async def read(self, task_id: str, principal: str) -> TaskView:
        """See `TaskStore.read`."""
        with self.at(task_id) as store:
            return await store.read(task_id, principal)

    async def repetition(self, task_id: str, principal: str, *, once: str | None = None) -> NewTask:
        """See `TaskStore.repetition`; for the same shard."""
        with self.at(task_id) as store:
            return await store.repetition(task_id, principal, once=once)

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

    async def slice(
        self, lister: str, after: tuple[str, str], *, limit: int, statuses: Collection[Status], tool: str | None
    ) -> Slice:
        """See `TaskStore.slice`. The shards' lists merged, each in the order of its own clock."""

        async def read(store: TaskStore) -> Slice:
            return await store.slice(lister, after, limit=limit, statuses=statuses, tool=tool)

        told, silent = await self._all(read)
        return merged(list(told.values()), limit, unreachable=silent)

    async def workers(self) -> list[dict[str, Any]]:
        """See `TaskStore.workers`; those of shards that answer, with the shard's name."""
        told, _ = await self._all(lambda store: store.workers())
        return [{"shard": shard, **worker} for shard, workers in told.items() for worker in workers]

    async def due(self, queue: str) -> int:
        """See `TaskStore.due`; on the shard where the queue is now."""
        with self._named(self._settings.shard_of(queue)) as store:
            return await store.due(queue)

    async def stats(self, queues: Iterable[str]) -> Stats:
        """See `TaskStore.stats`; the sums of the shards that answer."""
        known = sorted(set(queues))
        told, silent = await self._all(lambda store: store.stats(known))
        return stats_of_all(list(told.values()), silent)

    async def unreachable(self) -> tuple[str, ...]:
        """Names of shards that do not answer."""
        return (await self._all(lambda store: store.ping()))[1]

    @contextmanager
    def at(self, task_id: str) -> Iterator[TaskStore]:
        """The store of one task's shard.

        Raises:
            StoreUnavailable: it does not answer; the message names the shard.
        """
        shard = shard_in(task_id)
        with self._named(shard if shard in self._stores else HOME) as store:
            yield store

    @contextmanager
    def _named(self, shard: str) -> Iterator[TaskStore]:
        try:
            yield self._stores[shard]
        except StoreUnavailable as exc:
            raise StoreUnavailable(f"Shard {shard}: {exc}", shard=shard) from exc

    async def _earlier(self, task: NewTask) -> TaskView | None:
        """The task that has this idempotency key on another shard, where the queue was before it moved.

        Raises:
            KeyReused: the key stands for another call there.
        """
        key = f"{task.principal}:{task.idempotency}"
        for task_id, digest in await self._elsewhere.once(key, but=shard_in(task.id)):
            view = await self.find(task_id, task.principal)
            if view is not None and digest != task.idempotency_of:
                raise IdempotencyKeyReused(task_id=task_id)
            if view is not None:
                return view
        return None

    async def _all(self, ask: Callable[[TaskStore], Awaitable[T]]) -> tuple[dict[str, T], tuple[str, ...]]:
        """What each shard answers by name, and the names of those that do not.

        Raises:
            StoreUnavailable: none does.
        """
        replies = await asyncio.gather(*map(ask, self._stores.values()), return_exceptions=True)
        told: dict[str, T] = {}
        silent: list[str] = []
        for shard, reply in zip(self._stores, replies, strict=True):
            if isinstance(reply, StoreUnavailable):
                silent.append(shard)
            elif isinstance(reply, BaseException):
                raise reply
            else:
                told[shard] = reply
        if not told:
            raise StoreUnavailable("No shard can be reached right now. Nothing was lost; try again in a moment.")
        return told, tuple(silent)

    def _shard_of_channel(self, channel: str) -> str:
        shard = shard_in(channel.removeprefix(self.keys.root))
        return shard if shard in self._stores else HOME


class _Output(OutputStore):
    """What tasks of every shard put out, for readers."""

    def __init__(self, store: ShardedStore) -> None:
        super().__init__(store._redis, store._settings, store._scripts, store.hub)
        self._store = store

    async def read(self, task_id: str, *, after: int = 0, count: int = 1000) -> list[Chunk]:
        """See `OutputStore.read`."""
        with self._store.at(task_id) as store:
            return await store.output.read(task_id, after=after, count=count)


class _Artifacts(ArtifactStore):
    """Artifacts of every shard, for readers: their ids bear the mark of their task's."""

    def __init__(self, store: ShardedStore) -> None:
        super().__init__(store._redis, store._settings, store._scripts)
        self._store = store

    async def find(self, artifact_id: str, principal: str) -> Artifact:
        """See `ArtifactStore.find`."""
        with self._store.at(artifact_id) as store:
            return await store.artifacts.find(artifact_id, principal)

    async def read(self, artifact: Artifact, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """See `ArtifactStore.read`."""
        with self._store.at(artifact.id) as store:
            async for piece in store.artifacts.read(artifact, start, stop):
                yield piece
