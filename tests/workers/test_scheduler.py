"""How a worker makes tasks of firings: with what their tool's policy says, again where it was refused, and in time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from taskmill.engine.policy import TaskConfig
from taskmill.engine.ports import ScheduledCall
from taskmill.engine.record import Lane, TaskRecord
from taskmill.engine.timing.schedule import Schedule
from taskmill.store.shards import shard_of_id
from taskmill.store.tasks.pauses import Pausable, Pause
from taskmill.store.tasks.redis_store import RedisTaskStore
from taskmill.store.tasks.schedules import KnownSchedule, latest_of, schedule_name
from taskmill.store.tasks.tasks import OPERATOR
from taskmill.workers.services import scheduler as services
from taskmill.workers.services.scheduler import Scheduler
from taskmill.workers.settings import WorkerSettings
from tests.support.redis_server import free_port
from tests.support.store_fixture import StoreFixture
from tests.support.waiting import eventually_async
from tests.support.webhook_receiver import SECRET

YEARLY = Schedule(timedelta(days=366), missed="run_once")
"""Its latest firing is surely more than a minute ago."""


@dataclass
class Tools:
    """Tools that come and go, as those of a server do."""

    known: dict[str, TaskConfig] = field(default_factory=dict)

    def policies(self) -> dict[str, TaskConfig]:
        return dict(self.known)

    def scheduled_call(self, tool: str) -> ScheduledCall:
        return ScheduledCall({"arguments": {}}, Lane("printer", 1) if tool == "print" else None)


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "_LOOK_EVERY", 0.02)
    monkeypatch.setattr(services, "_TRY_AGAIN", 0.02)


@asynccontextmanager
async def scheduling(redis: Redis, settings: WorkerSettings, tools: Tools) -> AsyncIterator[RedisTaskStore]:
    """The service of a worker, which finds that each schedule was last seen to two years ago."""
    store = RedisTaskStore(redis, settings)
    long_ago = await store.now_ms() - 2 * 366 * 86_400_000
    for tool, policy in tools.known.items():
        assert policy.firings is not None
        kept = f"{long_ago} - {policy.firings.as_json()}"
        await redis.hset(store.keys.schedules, schedule_name("", tool), kept)  # type: ignore[misc]
    scheduler = Scheduler(store, tools, settings)  # type: ignore[arg-type]  # of a toolbox, what it asks for
    scheduler.start()
    try:
        yield store
    finally:
        await scheduler.stop()


async def made(store: RedisTaskStore, count: int = 1) -> dict[str, TaskRecord]:
    """So many tasks, once they are there, by their tools."""
    page = await eventually_async(lambda: store.page(OPERATOR), lambda page: len(page.views) >= count)
    assert len(page.views) == count
    return {view.record.tool: view.record for view in page.views}


async def events(logs: list[Any]) -> list[str]:
    """What was logged, but for beginnings."""
    return [one["event"] for one in logs if one["event"] != "schedule.begun"]


async def names(store: RedisTaskStore) -> list[str]:
    return [one.name for one in await store.schedules()]


async def test_a_firing_has_what_the_policy_of_its_tool_says_and_no_limit_of_callers(
    redis: Redis, redis_url: str
) -> None:
    policy = TaskConfig(schedule=YEARLY, priority=3, retries=2, deadline=3600, retention=60, poll_interval=7)
    tools = Tools({"print": policy, "other": TaskConfig(schedule=YEARLY, webhook=False)})
    hooked: dict[str, Any] = {"webhook_url": "https://hook.example", "webhook_secret": SECRET}
    settings = WorkerSettings(redis_url=redis_url, open_limit=1, **hooked)
    async with scheduling(redis, settings, tools) as store:
        records = await made(store, 2)
        one = records["print"]
        ends = await redis.hget(store.keys.record(one.id), "webhook")  # type: ignore[misc]
        assert not await redis.hexists(store.keys.record(records["other"].id), "webhook")  # type: ignore[misc]
    assert (one.priority, one.retries, one.lane, one.lane_limit) == (3, 2, "printer", 1)
    assert (one.deadline_ms or 0) - one.created_ms == 3_600_000
    assert (one.retention_ms, one.poll_ms) == (60_000, 7_000)
    assert b"succeeded" in (ends or b"")


async def test_the_id_of_a_firings_task_names_the_shard_that_has_it(redis: Redis, redis_url: str) -> None:
    shards: dict[str, Any] = {"redis_url": f"redis://127.0.0.1:{free_port()}", "shards": {"east": redis_url}}
    settings = WorkerSettings(**shards).at_shard("east")
    async with scheduling(redis, settings, Tools({"yearly": TaskConfig(schedule=YEARLY)})) as store:
        assert shard_of_id((await made(store))["yearly"].id) == "east"


async def test_a_worker_minds_the_tools_of_its_queues_and_those_that_come_and_change_later(
    redis: Redis, redis_url: str
) -> None:
    tools, settings = Tools(), WorkerSettings(redis_url=redis_url)
    async with scheduling(redis, settings, tools) as store:
        elsewhere = TaskConfig(schedule=YEARLY, queue="slow")
        tools.known = {"first": TaskConfig(schedule=YEARLY), "elsewhere": elsewhere, "never": TaskConfig()}
        await eventually_async(lambda: names(store), bool)
        tools.known = {**tools.known, "first": TaskConfig(schedule=60), "second": TaskConfig(schedule=YEARLY)}
        known = await eventually_async(store.schedules, lambda known: "60000" in known[0].schedule and len(known) == 2)
    assert [one.name for one in known] == ["/first", "/second"]


async def runs_of(store: RedisTaskStore, tool: str) -> int:
    """How many tasks of a tool there are."""
    return len([view for view in (await store.page(OPERATOR, limit=200)).views if view.record.tool == tool])


async def test_a_tool_that_is_gone_runs_no_more(redis: Redis, redis_url: str) -> None:
    tools, settings = Tools({"gone": TaskConfig(schedule=1)}), WorkerSettings(redis_url=redis_url)
    async with scheduling(redis, settings, tools) as store:
        await eventually_async(lambda: runs_of(store, "gone"), bool)
        tools.known = {"stays": TaskConfig(schedule=1)}
        await eventually_async(lambda: names(store), lambda found: "/stays" in found)
        before = await runs_of(store, "gone")
        await eventually_async(lambda: runs_of(store, "stays"), bool)
        assert await runs_of(store, "gone") == before


async def test_a_schedule_that_was_deleted_in_redis_begins_again(redis: Redis, redis_url: str) -> None:
    tools, settings = Tools({"yearly": TaskConfig(schedule=YEARLY)}), WorkerSettings(redis_url=redis_url)
    async with scheduling(redis, settings, tools) as store:
        await made(store)
        await redis.delete(store.keys.schedules)
        (known,) = await eventually_async(store.schedules, bool)
    assert (known.name, known.last_ms) == ("/yearly", None)


async def test_a_firing_that_is_refused_is_made_later_and_both_it_and_what_was_missed_are_logged_once(
    redis: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "_LOOK_EVERY", 60.0)
    tools = Tools({"yearly": TaskConfig(schedule=YEARLY), "skips": TaskConfig(schedule=timedelta(days=366))})
    settings = WorkerSettings(redis_url=redis_url, open_limit_total=1)
    stores = StoreFixture(redis, settings)
    blocking = await stores.create(tool="blocking")
    with capture_logs() as logs:
        async with scheduling(redis, settings, tools) as store:
            await eventually_async(lambda: events(logs), lambda found: "schedule.not_fired" in found)
            await stores.store.cancel(blocking, OPERATOR)
            await eventually_async(lambda: runs_of(store, "yearly"), bool)
            assert await runs_of(store, "skips") == 0
    found = await events(logs)
    assert sorted(found) == ["schedule.fired", "schedule.missed", "schedule.missed", "schedule.not_fired"]


async def test_a_paused_queue_or_tool_of_the_app_runs_nothing_in_any_of_its_stacks(
    redis: Redis, redis_url: str
) -> None:
    settings = WorkerSettings(redis_url=redis_url, app="shop")
    store, yearly = RedisTaskStore(redis, settings), TaskConfig(schedule=YEARLY)
    assert schedule_name("shop~1+stack", "yearly") == "shop~1/yearly"
    for pause in (Pause(Pausable.QUEUE, "shop~1", "default"), Pause(Pausable.TOOL, "shop~1", "yearly")):
        await store.pause(pause)
        seen = await store.scheduling.seen(["shop~1/yearly"])
        assert seen.is_paused("shop~1+stack", "yearly", yearly.queue)
        assert not seen.is_paused("shop", "yearly", yearly.queue)
        await store.resume(pause)


def test_of_a_schedule_that_several_shards_know_the_latest_counts() -> None:
    old, new = (KnownSchedule("shop/walk", seen, None, None, "") for seen in (1, 2))
    assert latest_of([new, old]) == latest_of([old, new]) == [new]
