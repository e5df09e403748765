"""The figures by tool in Redis: added up by all processes, each count once, whatever becomes of Redis meanwhile."""

import asyncio

import pytest
from redis.asyncio import Redis

from taskmill.store.formats.keys import Keys
from taskmill.store.metrics import writer as writers
from taskmill.store.metrics.counts import Counted, TaskCounts
from taskmill.store.metrics.figures import Figures, figures_of, figures_of_all
from taskmill.store.metrics.writer import CountWriter
from taskmill.store.scripts import Scripts
from taskmill.store.settings import StoreSettings
from tests.support.waiting import eventually_async

DAY = 86400


def writer_of(redis: Redis, settings: StoreSettings) -> tuple[TaskCounts, CountWriter]:
    """What a process counts, and what adds it to the figures."""
    counts = TaskCounts()
    return counts, CountWriter(counts, redis, settings, Scripts(Keys(settings.prefix)))


async def started(redis: Redis, app: str = "") -> dict[tuple[str, str], int]:
    """Attempts that were begun, by queue and tool."""
    rows = figures_of(await redis.hgetall(Keys().figures(app))).rows  # type: ignore[misc]
    return {(queue, tool): times for (what, queue, _, tool), times in rows.items() if what is Counted.STARTED}


async def test_a_process_that_stops_adds_what_it_has_counted_last(redis: Redis, settings: StoreSettings) -> None:
    counts, writer = writer_of(redis, settings)
    async with writer:
        counts.add(Counted.STARTED, "default", "walk")
    assert await started(redis) == {("default", "walk"): 1}


async def test_counts_of_several_processes_and_stacks_of_an_app_are_added_up_and_no_other_apps(
    redis: Redis, settings: StoreSettings
) -> None:
    for queue in ("shop/slow", "shop~1+stack/slow", "shop/slow", "zoo/slow"):
        counts, writer = writer_of(redis, settings)
        for _ in range(2):
            counts.add(Counted.STARTED, queue, "walk on")
            await writer.write()
    assert await started(redis, "shop") == {("shop/slow", "walk on"): 4}
    assert await started(redis, "shop~1") == {("shop~1/slow", "walk on"): 2}, "without the stack"
    assert await started(redis, "zoo") == {("zoo/slow", "walk on"): 2}


async def test_what_is_written_from_two_places_at_once_is_added_once(redis: Redis, settings: StoreSettings) -> None:
    """as at a stop in the midst of a write; there are more rows than one call takes."""
    counts, writer = writer_of(redis, settings)
    for number in range(500):
        counts.add(Counted.STARTED, "default", f"tool{number}")
    await asyncio.gather(*(writer.write() for _ in range(3)))
    assert sum((await started(redis)).values()) == 500


async def test_counts_wait_while_redis_takes_none_and_are_added_then(
    redis: Redis, settings: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "_EVERY", 0.01)
    counts, writer = writer_of(redis, settings)
    await redis.acl_setuser("default", commands=["-evalsha", "-eval"], enabled=True)
    try:
        async with writer:
            counts.add(Counted.STARTED, "default", "walk")
            await eventually_async(lambda: redis.acl_log(), bool)
            await redis.acl_setuser("default", commands=["+evalsha", "+eval"], enabled=True)
            await eventually_async(lambda: started(redis), bool)
    finally:
        await redis.acl_setuser("default", commands=["+evalsha", "+eval"], enabled=True)
        await redis.acl_log_reset()
    assert await started(redis) == {("default", "walk"): 1}


async def test_a_name_with_half_a_surrogate_pair_stops_no_other_count(redis: Redis, settings: StoreSettings) -> None:
    counts, writer = writer_of(redis, settings)
    counts.add(Counted.STARTED, "default", "\ud83d")
    counts.add(Counted.STARTED, "default", "walk")
    await writer.write()
    assert await started(redis) == {("default", "?"): 1, ("default", "walk"): 1}


async def test_figures_are_kept_for_a_quarter_and_the_mark_of_a_process_for_a_day(
    redis: Redis, settings: StoreSettings
) -> None:
    counts, writer = writer_of(redis, settings)
    counts.add(Counted.STARTED, "default", "walk")
    await writer.write()
    kept = {key: await redis.ttl(key) for key in await redis.keys("*")}
    figures = kept.pop(Keys().figures("").encode())
    assert (89 * DAY < figures <= 90 * DAY, [0 < left <= DAY for left in kept.values()]) == (True, [True])


def test_what_another_version_has_counted_is_left_out() -> None:
    kept = {b"started default - walk": b"2", b"flown default - walk": b"3", b"started x": b"4", b"tools": b"1"}
    assert figures_of(kept).rows == {(Counted.STARTED, "default", "-", "walk"): 2}


def test_figures_of_several_shards_are_their_sums() -> None:
    walk, run = (Counted.STARTED, "default", "-", "walk"), (Counted.STARTED, "slow", "-", "run")
    parts = [Figures({walk: 1}, frozenset({"walk"})), Figures({walk: 2, run: 4}, frozenset({"run"}))]
    assert figures_of_all(parts) == Figures({walk: 3, run: 4}, frozenset({"walk", "run"}))


def test_a_row_that_is_no_number_is_left_out_and_not_the_scrape() -> None:
    kept = {b"started default - walk": b"3", b"started default - run": b"of another program", b"started x": b"1"}
    assert figures_of(kept).rows == {(Counted.STARTED, "default", "-", "walk"): 3}
