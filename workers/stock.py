"""Our tasks on a stock `arq` worker process: correct, only slower than `windlass worker`.

arq's own bookkeeping deletes a job when its function returns, so whenever a task is not over the function raises
arq's `Retry`, which leaves the queue as our scripts wrote it.
"""

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from arq.worker import Retry, func

from windlass.engine.ports import ToolSource
from windlass.store.keys import Keys
from windlass.store.queue import JOB_FUNCTION, arq_redis_settings, job_from_json, job_to_json
from windlass.workers.attempt import Ending
from windlass.workers.held import Stop
from windlass.workers.settings import WorkerSettings
from windlass.workers.station import Station, open_station

__all__ = ["arq_arguments", "stock_settings"]

_NEVER = 10**9
"""Seconds, or tries: more than any task sees. arq's own limits must not end a task; its policy does."""
_STATION = "windlass.station"
_STACK = "windlass.stack"


def arq_arguments(settings: WorkerSettings) -> dict[str, Any]:
    """Arguments of `arq.worker.Worker`, the same for our worker and a stock one."""
    return {
        "functions": [func(_run, name=JOB_FUNCTION, max_tries=_NEVER, timeout=_NEVER, keep_result=0)],
        "queue_name": Keys(settings.prefix).queue(settings.queue),
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
    """A settings class for `arq path.to.WorkerSettings`. `load` is called when the worker starts."""

    async def on_startup(ctx: dict[Any, Any]) -> None:
        stack = ctx[_STACK] = AsyncExitStack()
        ctx[_STATION] = await stack.enter_async_context(open_station(load(), settings))

    async def on_shutdown(ctx: dict[Any, Any]) -> None:
        await ctx[_STACK].aclose()

    hooks = {"on_startup": staticmethod(on_startup), "on_shutdown": staticmethod(on_shutdown)}
    return type("WorkerSettings", (), {**arq_arguments(settings), **hooks})


async def _run(ctx: dict[Any, Any], task_id: str) -> None:
    """The one function arq knows: claim this task, run it, settle it."""
    station: Station = ctx[_STATION]
    store = station.store
    _, claims = await store.turn([], store.claim_call(station.settings.queue, 1, ids=[task_id]))
    if claims is None or not claims.tasks:
        if await store.is_open(task_id):
            raise Retry
        return
    attempt = station.attempt(claims.tasks[0])
    try:
        ending = await attempt.run()
    except BaseException:
        attempt.stop(Stop.DRAIN)
        raise
    if ending is None or not await _settle(station, ending):
        raise Retry


async def _settle(station: Station, ending: Ending) -> bool:
    replies, _ = await station.store.turn(station.calls_of(ending))
    return station.note(ending, replies[-1])
