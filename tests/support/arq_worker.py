"""A stock arq worker on our queue, one step at a time: arq's own code writes its keys around our function, whose
attempts wait until a test says how they end. No clock and no loop of arq's runs here.

The function is `workers/arq_worker.py` without what a process has around it: claim this task, run it, settle it, and
let arq tidy up only when the task is over.
"""

import asyncio
import math
import time
from typing import Any

import arq.worker
from arq.connections import ArqRedis
from arq.worker import Retry, func
from redis.asyncio import Redis

from taskmill.engine.outcome import Outcome
from taskmill.store.claims.claims import ClaimStore
from taskmill.store.tasks.arq_job import JOB_FUNCTION
from taskmill.workers.arq_worker import arq_arguments
from taskmill.workers.settings import WorkerSettings

__all__ = ["NAME", "StockWorker"]

NAME = "stock"
"""What it calls itself."""


class StockWorker:
    """One arq worker process. One that is never told anything again is as good as dead; make another."""

    def __init__(self, redis: Redis, settings: WorkerSettings) -> None:
        """Call inside the event loop."""
        self._runs: dict[str, asyncio.Future[Outcome]] = {}
        self._store = ClaimStore(redis, settings, NAME)
        ours = {**arq_arguments(settings), "redis_settings": None}
        (declared,) = ours["functions"]
        ours["functions"] = [
            func(self._run, name=JOB_FUNCTION, max_tries=declared.max_tries, timeout=declared.timeout_s, keep_result=0)
        ]
        pool = ArqRedis(connection_pool=redis.connection_pool)
        self._arq = arq.worker.Worker(**ours, redis_pool=pool, handle_signals=False)
        self._redis = redis

    @property
    def running(self) -> list[str]:
        """Tasks whose tool runs."""
        return list(self._runs)

    async def take(self, task_id: str) -> None:
        """What arq does when it has read this id from the head of the queue: start it, unless it is marked or not due.
        Returns when the tool runs, or everything is over.
        """
        await self._until_arq_calls_it_due(task_id)
        await self._arq.start_jobs([task_id.encode()])
        job = self._arq.tasks.get(task_id)
        if job is None:
            return
        while task_id not in self._runs and not job.done():
            await asyncio.sleep(0)
        if job.done():
            self._arq.tasks.pop(task_id).result()

    async def end(self, task_id: str, outcome: Outcome) -> None:
        """Its tool ends; returns when our function and arq have written all they write."""
        self._runs.pop(task_id).set_result(outcome)
        await self._arq.tasks.pop(task_id)

    async def _run(self, _ctx: dict[Any, Any], task_id: str) -> None:
        _, claims = await self._store.run_batch([], self._store.claim_call("default", 1, ids=[task_id]))
        if claims is None or not claims.tasks:
            if await self._store.is_open(task_id):
                raise Retry
            return
        self._runs[task_id] = asyncio.get_running_loop().create_future()
        outcome = await self._runs[task_id]
        (reply,), _ = await self._store.run_batch([self._store.finish_call(task_id, claims.tasks[0].fence, outcome)])
        if reply == b"lost":
            raise Retry

    async def _until_arq_calls_it_due(self, task_id: str) -> None:
        """arq compares whole milliseconds of its own clock: a score of this instant may be later to it."""
        score = await self._redis.zscore(self._arq.queue_name, task_id)
        if score is not None and score <= time.time() * 1000 + 5:
            async with asyncio.timeout(1):
                while int(time.time() * 1000) < math.ceil(score):
                    await asyncio.sleep(0.0002)
