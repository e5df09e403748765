"""Counts for graphs: true, the same from everywhere, and cheap however many tasks there are."""

from typing import Any

import pytest

from taskmill.engine.outcome import Refused
from taskmill.store.tasks import redis_store as tasks_module
from taskmill.store.tasks.stats import QueueCount, Stats
from tests.support.store_fixture import OWNER, StoreFixture, question


async def test_an_empty_store_counts_nothing(stores: StoreFixture) -> None:
    nothing = QueueCount("default", 0, 0, 0, {"pending": 0})

    assert await stores.store.stats(["default"]) == Stats(0, 0, 0, {}, (nothing,))
    assert await stores.store.stats([]) == Stats(0, 0, 0, {}, ())


async def test_every_task_is_counted_once_by_state_and_queue(stores: StoreFixture) -> None:
    for outcome in (Refused(-1, "no"), Refused(-1, "no")):
        await stores.finish(await stores.start(), outcome)
    await stores.finish(await stores.start())
    await stores.store.cancel(await stores.create(queue="slow"), OWNER)
    running, asking, later = await stores.start(), await stores.start(), await stores.start()
    await stores.ann.ask(asking.id, asking.fence, [question(1)])
    await stores.release(later, delay=60)
    for _ in range(2):
        await stores.create()
    await stores.create(queue="slow")
    await stores.lapse(running.id)

    stats = await stores.store.stats(["slow", "default", "default"])

    default, slow = stats.queues
    assert (stats.open, stats.kept) == (6, 10)
    assert stats.ended == {("failed", "default"): 2, ("succeeded", "default"): 1, ("cancelled", "slow"): 1}
    # The lapsed one waits for a worker like any other.
    assert (default.depth, default.due, default.by_status) == (5, 3, {"pending": 4, "input_required": 1})
    assert (slow.depth, slow.due, slow.by_status) == (1, 1, {"pending": 1})


async def test_the_age_of_the_oldest_waiting_task_is_counted_from_when_it_could_run(stores: StoreFixture) -> None:
    task_id = await stores.create()
    await stores.create()
    created = (await stores.record(task_id)).created_ms
    await stores.wait_until_ms(created + 20)

    (queue,) = (await stores.store.stats(["default"])).queues

    assert 20 <= queue.oldest_ms <= await stores.now_ms() - created


async def test_only_so_many_tasks_are_read_and_the_others_are_counted_all_the_same(
    stores: StoreFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks_module, "_STATES_READ", 3)
    for _ in range(5):
        await stores.start()
    await stores.create()

    (queue,) = (await stores.store.stats(["default"])).queues

    assert queue.by_status == {"pending": 1, "running": 3, "other": 2}


async def test_counting_and_listing_workers_cost_a_handful_of_commands_whatever_is_stored(stores: StoreFixture) -> None:
    await stores.store.stats(["default"])
    costs = []
    for _ in range(2):
        for _ in range(50):
            await stores.create()
        await stores.redis.config_resetstat()
        await stores.store.stats(["default"])
        await stores.store.workers()
        stats: dict[str, Any] = await stores.redis.info("commandstats")
        costs.append(sum(stat["calls"] for name, stat in stats.items() if "info" not in name and "config" not in name))

    assert costs[0] == costs[1] < 15


async def test_what_another_program_wrote_hides_nothing_else(stores: StoreFixture) -> None:
    await stores.finish(await stores.start())
    junk = {"junk": "1", "failed default": "junk", "failed default walk": "9" * 400, b"\xff": "1"}
    for key in (stores.keys.ended, stores.keys.paused):
        await stores.redis.hset(key, mapping=junk)  # type: ignore[misc]
    await stores.redis.hset(stores.keys.schedules, b"\xff", "junk")  # type: ignore[misc]
    await stores.redis.sadd(stores.keys.workers, "one", "two")  # type: ignore[misc]
    for name, report in (("one", b"junk\xff"), ("two", b"[]")):
        await stores.redis.set(stores.keys.worker(name), report, ex=60)

    assert (await stores.store.stats([])).ended == {("succeeded", "default"): 1}
    assert (await stores.store.pauses(), await stores.store.schedules(), await stores.store.workers()) == ([], [], [])
    await stores.redis.delete(stores.keys.workers)
