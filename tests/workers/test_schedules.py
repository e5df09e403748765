"""Tools with a schedule: each firing is one task, over all workers and their deaths; what is missed goes by policy."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from taskmill.engine.principal import SCHEDULE
from taskmill.engine.timing.schedule import Schedule
from taskmill.server import TaskConfig, TaskServer
from taskmill.store.tasks.pauses import Pausable, Pause
from taskmill.store.tasks.redis_store import RedisTaskStore
from taskmill.store.tasks.schedules import KnownSchedule, firing_id, schedule_name
from taskmill.store.tasks.tasks import OPERATOR
from taskmill.workers.in_process import running_worker
from taskmill.workers.settings import WorkerSettings
from tests.support.waiting import eventually_async
from tests.workers.deployment import Deployment

HOUR = timedelta(hours=1)


@pytest.mark.usefixtures("short_lease")
@pytest.mark.slow
async def test_each_firing_is_one_task_over_three_workers_that_are_killed(deployment: Deployment) -> None:
    """Three of them with SIGKILL, one after each of three firings; others take their places."""
    workers = [await deployment.worker(server="scheduled_tools") for _ in range(3)]
    first = await next_firing(deployment.store, 0)
    at_ms = first
    for victim in workers:
        at_ms = await next_firing(deployment.store, at_ms)
        await victim.kill()
        await deployment.worker(server="scheduled_tools", ready=False)
    last = await next_firing(deployment.store, at_ms)

    made = [view.record.id for view in (await deployment.store.page(OPERATOR, limit=200)).views]
    later = ids(last + 1000, await deployment.store.now_ms() + 60_000)
    expected = ids(first, last)
    assert len(expected) >= 5
    assert set(made) - later - ids(first - 60_000, first - 1000) == expected
    assert len(made) == len(set(made))
    for task_id in expected:
        view = await deployment.done(task_id)
        assert (view.record.principal, view.record.status.value) == (SCHEDULE, "completed")
        assert (await deployment.moves(task_id)).count("create") == 1


def ids(first_ms: int, last_ms: int) -> set[str]:
    """The ids of the tasks of these firings."""
    return {firing_id("/tick", at_ms, "home") for at_ms in range(first_ms, last_ms + 1, 1000)}


async def next_firing(store: RedisTaskStore, after_ms: int) -> int:
    """Wait for a firing after this time; when it was due."""
    found = await eventually_async(store.schedules, lambda found: bool(found) and (found[0].last_ms or 0) > after_ms)
    return found[0].last_ms or 0


async def test_missed_firings_go_by_the_policy_and_a_pause_or_a_clock_that_went_back_misses_them(
    redis: Redis, redis_url: str
) -> None:
    mcp: TaskServer[Any] = TaskServer("Missed")
    for name, missed in (("skips", "skip"), ("makes_up", "run_once"), ("paused", "run_once")):

        async def work() -> str:
            return "worked"

        mcp.add_tool(work, name, task=TaskConfig(schedule=Schedule(HOUR, missed=missed)))  # type: ignore[arg-type]
    settings = WorkerSettings(redis_url=redis_url)
    store = RedisTaskStore(redis, settings)
    now = await store.now_ms()
    this_hour = now - now % 3_600_000
    if now - this_hour < 60_000:  # right after the full hour this firing is not missed yet
        this_hour = 0
    long_ago = now - 5 * 3_600_000
    for name in ("skips", "makes_up", "paused"):
        kept = mcp.policies()[name].firings
        assert kept is not None
        await redis.hset(store.keys.schedules, schedule_name("", name), f"{long_ago} - {kept.as_json()}")  # type: ignore[misc]
    await store.pause(Pause(Pausable.TOOL, "", "paused"))
    mcp.add_tool(work, "was_ahead", task=TaskConfig(schedule=1))
    in_a_year = f'{now + 365 * 86_400_000} - {{"every_ms":1000,"missed":"skip"}}'
    await redis.hset(store.keys.schedules, schedule_name("", "was_ahead"), in_a_year)  # type: ignore[misc]

    async with running_worker(mcp, settings):
        (made_up,) = await eventually_async(lambda: tasks_of(store, "makes_up"), lambda found: len(found) == 1)
        assert this_hour in (0, int((await known(store, "makes_up")).last_ms or 0))
        assert await store.read(made_up, OPERATOR)
        assert this_hour == 0 or await tasks_of(store, "skips") == []
        assert await tasks_of(store, "paused") == []
        await eventually_async(lambda: tasks_of(store, "was_ahead"))
        await store.resume(Pause(Pausable.TOOL, "", "paused"))
        await eventually_async(lambda: tasks_of(store, "paused"), lambda found: len(found) == 1)
        assert len(await tasks_of(store, "makes_up")) == 1


async def test_a_concurrency_key_that_fails_holds_up_no_other_schedule_and_its_own_only_while_it_fails(
    redis: Redis, redis_url: str
) -> None:
    mcp: TaskServer[Any] = TaskServer("Keys")
    fails: list[bool] = []

    def key(_: Mapping[str, Any]) -> str:
        if fails:
            raise LookupError("no such key")
        return "one"

    async def work() -> str:
        return "worked"

    mcp.add_tool(work, "a_failing", task=TaskConfig(schedule=1, concurrency_key=key))
    mcp.add_tool(work, "a_whole", task=TaskConfig(schedule=1))
    fails.append(True)
    settings = WorkerSettings(redis_url=redis_url)
    store = RedisTaskStore(redis, settings)
    async with running_worker(mcp, settings):
        await eventually_async(lambda: tasks_of(store, "a_whole"), lambda found: len(found) >= 2)
        assert await tasks_of(store, "a_failing") == []
        fails.clear()
        await eventually_async(lambda: tasks_of(store, "a_failing"))


async def known(store: RedisTaskStore, tool: str) -> KnownSchedule:
    return next(one for one in await store.schedules() if one.name == schedule_name("", tool))


async def tasks_of(store: RedisTaskStore, tool: str) -> list[str]:
    return [view.record.id for view in (await store.page(OPERATOR)).views if view.record.tool == tool]


@pytest.mark.slow
async def test_a_worker_that_ends_when_it_is_idle_waits_for_a_task_that_starts_later(deployment: Deployment) -> None:
    """The one that a detached call leaves behind: no other would run the task."""
    start = await deployment.store.now_ms() + 6000
    task = replace(deployment.task("quick", journal=str(deployment.journal)), not_before_ms=start)
    await deployment.store.create(task)
    await deployment.worker(idle_exit=3, lease=1.5)  # what is due sooner than a lease may be another worker's

    view = await deployment.done(task.id)

    assert view.record.status.value == "completed"
    assert (view.record.started_ms or 0) >= start
