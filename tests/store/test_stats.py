"""Counts for graphs: true, the same from everywhere, and cheap however many tasks there are."""

from typing import Any

import pytest

from taskmill.engine.outcome import Refused
from taskmill.store import tasks as tasks_module
from taskmill.store.tasks.stats import Census, QueueCount
from tests.support.store_fixture import OWNER, Depot, question


async def test_an_empty_store_counts_nothing(depot: Depot) -> None:
    nothing = QueueCount("default", 0, 0, 0, {"pending": 0})

    assert await depot.store.census(["default"]) == Census(0, 0, 0, {}, (nothing,))
    assert await depot.store.census([]) == Census(0, 0, 0, {}, ())


async def test_every_task_is_counted_once_by_state_and_queue(depot: Depot) -> None:
    for outcome in (Refused(-1, "no"), Refused(-1, "no")):
        await depot.finish(await depot.start(), outcome)
    await depot.finish(await depot.start())
    await depot.store.cancel(await depot.create(queue="slow"), OWNER)
    running, asking, later = await depot.start(), await depot.start(), await depot.start()
    await depot.ann.ask(asking.id, asking.fence, [question(1)])
    await depot.release(later, delay=60)
    for _ in range(2):
        await depot.create()
    await depot.create(queue="slow")
    await depot.lapse(running.id)

    census = await depot.store.census(["slow", "default", "default"])

    default, slow = census.queues
    assert (census.open, census.kept) == (6, 10)
    assert census.ended == {("failed", "default"): 2, ("completed", "default"): 1, ("cancelled", "slow"): 1}
    # The lapsed one waits for a worker like any other.
    assert (default.depth, default.due, default.by_status) == (5, 3, {"pending": 4, "input_required": 1})
    assert (slow.depth, slow.due, slow.by_status) == (1, 1, {"pending": 1})


async def test_the_age_of_the_oldest_waiting_task_is_counted_from_when_it_could_run(depot: Depot) -> None:
    task_id = await depot.create()
    await depot.create()
    created = (await depot.record(task_id)).created_ms
    await depot.wait_until_ms(created + 20)

    (queue,) = (await depot.store.census(["default"])).queues

    assert 20 <= queue.oldest_ms <= await depot.now_ms() - created


async def test_only_so_many_tasks_are_looked_at_and_the_others_are_counted_all_the_same(
    depot: Depot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks_module, "_COUNTED", 3)
    for _ in range(5):
        await depot.start()
    await depot.create()

    (queue,) = (await depot.store.census(["default"])).queues

    assert queue.by_status == {"pending": 1, "running": 3, "other": 2}


async def test_counting_and_listing_workers_cost_a_handful_of_commands_whatever_is_stored(depot: Depot) -> None:
    await depot.store.census(["default"])
    costs = []
    for _ in range(2):
        for _ in range(50):
            await depot.create()
        await depot.redis.config_resetstat()
        await depot.store.census(["default"])
        await depot.store.workers()
        stats: dict[str, Any] = await depot.redis.info("commandstats")
        costs.append(sum(said["calls"] for name, said in stats.items() if "info" not in name and "config" not in name))

    assert costs[0] == costs[1] < 15
