"""Taskmill's tasks on a stock `arq` worker process: correct, only slower than `taskmill worker`.

arq deletes a job when its function returns. So whenever a task has not ended, the function raises arq's `Retry`, which
leaves the queue as Taskmill's scripts wrote it.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import structlog
from arq.worker import Retry, func

from taskmill.engine.errors import OperatorError, SettingsError
from taskmill.engine.ports import ToolSource
from taskmill.store.tasks.arq_job import JOB_FUNCTION, arq_redis_settings, job_from_json, job_to_json
from taskmill.workers.attempts.active import Stop
from taskmill.workers.attempts.endings import Ending, Finish, without_room
from taskmill.workers.process_signals import keep_signals_from_children
from taskmill.workers.runtime import WorkerRuntime, open_worker_runtime
from taskmill.workers.settings import WorkerSettings

__all__ = ["arq_arguments", "stock_settings"]

log = structlog.get_logger()
_NEVER = 10**9
"""Seconds, or tries: more than any task needs. arq's own limits must not end a task; the task's policy does."""
_RUNTIME = "taskmill.runtime"
_STACK = "taskmill.stack"


def arq_arguments(settings: WorkerSettings) -> dict[str, Any]:
    """Arguments of `arq.worker.Worker`, the same for `taskmill worker` and a stock one. arq itself knows one queue."""
    return {
        "functions": [func(_run, name=JOB_FUNCTION, max_tries=_NEVER, timeout=_NEVER, keep_result=0)],
        "queue_name": settings.keys().queue(settings.qualified(settings.queues[0])),
        "redis_settings": arq_redis_settings(settings),
        "max_jobs": settings.concurrency,
        "max_tries": _NEVER,
        "job_timeout": _NEVER,
        "keep_result": 0,
        "poll_delay": min(0.5, settings.poll),
        "job_serializer": job_to_json,
        "job_deserializer": job_from_json,
        "log_results": False,
    }


def stock_settings(load: Callable[[], ToolSource], settings: WorkerSettings) -> type:
    """A settings class for `arq path.to.WorkerSettings`. `load` is called when the worker starts.

    Raises:
        SettingsError: there is more than one queue to serve, or the Redis is a cluster.
    """

    if len(settings.queues) > 1:
        raise SettingsError(f"An arq worker serves one queue, not {settings.queue}: start one for each.")
    settings = settings.at_own_shard()
    if settings.keys().in_cluster:
        raise SettingsError("A stock arq worker cannot use a Redis cluster: start `taskmill worker` instead.")

    async def on_startup(ctx: dict[Any, Any]) -> None:
        keep_signals_from_children()  # arq handles them
        stack = ctx[_STACK] = AsyncExitStack()
        runtime = ctx[_RUNTIME] = await stack.enter_async_context(open_worker_runtime(load(), settings, is_stock=True))
        # It names no task that there is. From now on all workers mark what they claim, so that arq does not start it.
        await runtime.store.run_batch([], runtime.store.claim_call(runtime.queues, 1, ids=[""]))

    async def on_shutdown(ctx: dict[Any, Any]) -> None:
        await ctx[_STACK].aclose()

    hooks = {"on_startup": staticmethod(on_startup), "on_shutdown": staticmethod(on_shutdown)}
    return type("WorkerSettings", (), {**arq_arguments(settings), **hooks})


async def _run(ctx: dict[Any, Any], task_id: str) -> None:
    """The only function that arq knows: claim this task, run it, settle it."""
    try:
        has_ended = await _work(ctx[_RUNTIME], task_id)
    except OperatorError as exc:
        log.warning("store.turn_failed", error=str(exc))
        has_ended = False
    if not has_ended:
        raise Retry


async def _work(runtime: WorkerRuntime, task_id: str) -> bool:
    """One attempt, if the task can be claimed; True if the task has ended.

    Raises:
        OperatorError: the store did not answer, or refused.
    """
    store = runtime.store
    _, claims = await store.run_batch([], store.claim_call(runtime.queues, 1, ids=[task_id]))
    if claims is None or not claims.tasks:
        return not await store.is_open(task_id)
    runtime.slots.take()
    attempt = runtime.attempt(claims.tasks[0])
    running = asyncio.create_task(attempt.run())
    try:
        ending = await asyncio.shield(running)
    except asyncio.CancelledError:
        # arq is stopping, and waits for its jobs to end.
        attempt.stop(Stop.DRAIN)
        if (ending := await running) is not None:
            await _settle(runtime, ending)
        raise
    return ending is not None and await _settle(runtime, ending)


async def _settle(runtime: WorkerRuntime, ending: Ending) -> bool:
    try:
        replies, _ = await runtime.store.run_batch(runtime.calls_of(ending))
        if replies[-1] == b"full" and isinstance(ending, Finish):
            ending = without_room(ending, is_last=True)
            replies, _ = await runtime.store.run_batch(runtime.calls_of(ending))
    except OperatorError:
        # The store does not know the ending, so let the lease expire: the task runs again.
        runtime.active.remove(ending.task.id, ending.task.fence)
        raise
    return runtime.settle(ending, replies[-1])
