"""A store and two workers on one Redis, for tests of `store/`: the moves of a task in one line each."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from anyio import fail_after, sleep
from redis.asyncio import Redis

from taskmill.engine.outcome import Outcome, Returned
from taskmill.engine.principal import new_task_id, principal_of
from taskmill.engine.record import NewTask, Progress, TaskRecord, TaskView
from taskmill.store.claims.claims import Claimed, Claims, ClaimStore, Question
from taskmill.store.scripts import Call, Scripts
from taskmill.store.settings import StoreSettings
from taskmill.store.tasks.output import OutputStore
from taskmill.store.tasks.redis_store import RedisTaskStore
from taskmill.store.tasks.tasks import OPERATOR
from tests.support.invariants import Found, read_redis

__all__ = ["DONE", "OWNER", "STRANGER", "StoreFixture", "own_servers", "question"]

OWNER = principal_of("https://issuer.example", "desktop", "ann")
STRANGER = principal_of("https://issuer.example", "desktop", "bob")
DONE = Returned({"content": [{"type": "text", "text": "done"}]})


def question(number: int, text: str = "sure?") -> Question:
    """The question a tool asks as its `number`-th, in a worker's form."""
    return Question(f"input-{number}", f"digest of {text}", {"message": text})


@pytest.fixture
def own_servers() -> None:
    """What `sound` of tests/store is in modules whose tests have Redis servers of their own: nothing."""


class StoreFixture:
    """`ann` and `bob` are workers; `store` is what a server has."""

    def __init__(self, redis: Redis, settings: StoreSettings) -> None:
        self.redis = redis
        self.settings = settings
        self.store = RedisTaskStore(redis, settings)
        self.keys = self.store.keys
        self.output = OutputStore(redis, settings, Scripts(self.keys))
        self.ann = ClaimStore(redis, settings, "ann")
        self.bob = ClaimStore(redis, settings, "bob")

    def with_settings(self, **changes: Any) -> "StoreFixture":
        """Another process on the same Redis, configured otherwise."""
        return StoreFixture(self.redis, StoreSettings(**{**self.settings.model_dump(), **changes}))

    def task(self, *, arguments: dict[str, Any] | None = None, **changes: Any) -> NewTask:
        """A task that is not stored yet."""
        task_id = changes.pop("id", None) or new_task_id()
        new = replace(NewTask(id=task_id, tool="count", principal=OWNER, payload=b""), **changes)
        if "payload" in changes:
            return new
        given = {"n": 1} if arguments is None else arguments
        return replace(new, payload=self.store.pack(task_id, given, tool=new.tool, principal=new.principal))

    async def create(self, **changes: Any) -> str:
        """Create a task; its id."""
        return (await self.store.create(self.task(**changes))).record.id

    async def claim(
        self, worker: ClaimStore | None = None, room: int = 1, *, batch_id: str = "", ids: Sequence[str] = ()
    ) -> Claims:
        """One claim of the default queue, by ann by default."""
        by = worker or self.ann
        _, claims = await by.run_batch([], by.claim_call("default", room, batch_id=batch_id, ids=ids))
        assert claims is not None
        return claims

    async def start(self, worker: ClaimStore | None = None, **changes: Any) -> Claimed:
        """Create a task and claim it."""
        task_id = await self.create(**changes)
        return await self.take(task_id, worker)

    async def take(self, task_id: str, worker: ClaimStore | None = None) -> Claimed:
        """Claim this task, which must be due."""
        (claimed,) = (await self.claim(worker, ids=[task_id])).tasks
        return claimed

    async def run(self, *calls: Call) -> list[Any]:
        """A batch without a claim."""
        replies, _ = await self.ann.run_batch(calls)
        return replies

    async def finish(self, task: Claimed, outcome: Outcome = DONE, *, fence: int | None = None) -> str:
        """The reply to a finish."""
        (reply,) = await self.run(self.ann.finish_call(task.id, task.fence if fence is None else fence, outcome))
        return str(reply.decode())

    async def release(
        self, task: Claimed, *, delay: float = 0, failures: int = 0, reason: str = "drain", fence: int | None = None
    ) -> str:
        """The reply to a release."""
        of = task.fence if fence is None else fence
        wait = timedelta(seconds=delay)
        (reply,) = await self.run(
            self.ann.release_call(task.id, of, delay=wait, failures=failures, reason=reason),
        )
        return str(reply.decode())

    async def renew(self, *held: tuple[str, int]) -> list[str]:
        """The ids whose lease is lost."""
        (lost,) = await self.run(self.ann.renew_call(held))
        return [task_id.decode() for task_id in lost]

    async def report(self, *reports: tuple[str, int, Progress]) -> list[str]:
        """The ids whose lease is lost."""
        (lost,) = await self.run(self.ann.progress_call(reports))
        return [task_id.decode() for task_id in lost]

    async def lapse(self, task_id: str) -> None:
        """Let the lease of a claimed task, or the delay of a released one, have run out."""
        record = await self.record(task_id)
        assert await self.redis.zadd(self.keys.queue(record.queue), {task_id: 1}, xx=True, ch=True) == 1
        await self.redis.delete(self.keys.in_progress(task_id))

    async def read(self, task_id: str) -> TaskView:
        """The task as an operator sees it."""
        return await self.store.read(task_id, OPERATOR)

    async def record(self, task_id: str) -> TaskRecord:
        """The record as an operator sees it."""
        return (await self.read(task_id)).record

    async def moves(self, task_id: str) -> list[str]:
        """The words of its history."""
        return [event.move.value for event in await self.store.history(task_id)]

    async def found(self) -> Found:
        """All of Redis."""
        return await read_redis(self.redis, self.keys)

    async def wait_until_ms(self, moment: int) -> None:
        """Return once Redis's clock is past `moment`, milliseconds since 1970."""
        with fail_after(30):
            while await self.now_ms() <= moment:
                await sleep(0.001)

    async def now_ms(self) -> int:
        """Redis's clock."""
        seconds, micros = await self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    @asynccontextmanager
    async def nothing_changes(self) -> AsyncIterator[None]:
        """Fails if Redis holds something else at the end than at the beginning."""
        before = (await self.found()).lasting
        yield
        assert (await self.found()).lasting == before
