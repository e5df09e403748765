"""Pauses of queues and tools: nothing of them starts, nothing else is held up, and their end keeps the order."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from taskmill.engine.record import Lane
from taskmill.engine.status import Status
from taskmill.store.tasks.pauses import Pausable, Pause
from tests.support.store_fixture import OWNER, STRANGER, StoreFixture

QUEUE = Pause(Pausable.QUEUE, "", "default", "ann@desk", 1_700_000_000_000, "the disk is full")
TOOL = Pause(Pausable.TOOL, "", "count", "ann@desk")
HOUR = timedelta(hours=1)


async def claimed(stores: StoreFixture, room: int = 100, *, ids: Sequence[str] = ()) -> list[str]:
    """The ids of one claim."""
    return [task.id for task in (await stores.claim(room=room, ids=ids)).tasks]


@pytest.mark.parametrize("pause", [QUEUE, TOOL])
async def test_nothing_of_what_is_paused_starts_and_all_of_it_does_afterwards_in_its_order(
    stores: StoreFixture, pause: Pause
) -> None:
    """neither for Taskmill's workers nor, by its id, for a stock arq worker; what runs goes on."""
    running = await stores.start()
    before = [await stores.create() for _ in range(3)]
    theirs = await stores.create(principal=STRANGER)
    assert await stores.store.pause(pause)
    during = await stores.create()

    assert await claimed(stores) == []
    for task_id in (*before, during):
        assert await claimed(stores, ids=[task_id]) == []
    claims = await stores.claim()
    assert (claims.tasks, claims.wait_ms) != ([], 0), "no worker is to ask again at once"
    assert await stores.redis.exists(stores.keys.wake("default")) == 0
    views = [await stores.read(task_id) for task_id in (*before, theirs, during)]
    assert {(view.record.status, view.paused, view.ahead) for view in views} == {(Status.PENDING, pause.kind, None)}
    (count,) = (await stores.store.stats(["default"])).queues
    assert (count.due, count.held, count.by_status) == (0, 5, {"pending": 5, "running": 1})
    assert await stores.finish(running) == "finished"

    assert await stores.store.resume(pause)
    assert await claimed(stores) == [before[0], theirs, *before[1:], during]
    assert await stores.store.pauses() == []
    assert {(await stores.read(task_id)).paused for task_id in before} == {None}


async def test_a_pause_is_kept_with_who_when_and_why_and_can_be_said_again(stores: StoreFixture) -> None:
    assert await stores.store.pause(QUEUE)
    assert await stores.store.pause(TOOL)
    assert not await stores.store.pause(Pause(Pausable.QUEUE, "", "default", "bob", 5, "still full"))

    (queue, tool) = await stores.with_settings().store.pauses()

    assert (queue.name, queue.by, queue.at_ms, queue.reason) == ("default", "bob", 5, "still full")
    assert tool == TOOL
    assert [await stores.store.resume(pause) for pause in (QUEUE, QUEUE, TOOL)] == [True, False, True]


async def test_a_paused_tool_holds_up_no_other_tool_of_its_queue(stores: StoreFixture) -> None:
    """however many of its tasks come before, also in claims of one; and its lane is free for others."""
    lane = Lane("shared", 1)
    for _ in range(20):
        await stores.create()
    await stores.create(lane=lane)
    await stores.store.pause(TOOL)
    late = [await stores.create() for _ in range(3)]
    other = [await stores.create(tool="dig", lane=lane), await stores.create(tool="dig")]

    started: list[str] = []
    for _ in range(10):
        started += await claimed(stores, room=1)

    assert sorted(started) == sorted(other)
    await stores.store.resume(TOOL)
    rest = await claimed(stores)
    assert len(rest) == 23, "the task of the lane waits for the one that runs"
    assert [task_id for task_id in rest if task_id in late] == late


async def test_the_pause_of_a_tool_is_of_its_own_app_and_of_all_stacks_of_it(stores: StoreFixture) -> None:
    theirs = await stores.create(queue="other/default")
    ours = [await stores.create(queue=queue) for queue in ("shop~1f/default", "shop~1f+a/default", "shop~1f+b/slow")]
    await stores.store.pause(Pause(Pausable.TOOL, "shop~1f", "count"))

    assert (await stores.read(theirs)).paused is None
    assert [(await stores.read(task_id)).paused for task_id in ours] == ["tool"] * 3
    await stores.store.resume(Pause(Pausable.TOOL, "shop~1f", "count"))
    await stores.store.pause(Pause(Pausable.QUEUE, "shop~1f", "default"))
    assert [(await stores.read(task_id)).paused for task_id in ours] == ["queue", "queue", None]


async def test_what_a_dead_worker_had_waits_too_and_comes_first_afterwards(stores: StoreFixture) -> None:
    dead = await stores.start()
    waiting = await stores.create()
    await stores.store.pause(QUEUE)
    await stores.lapse(dead.id)

    assert await claimed(stores) == []
    await stores.store.resume(QUEUE)
    assert await claimed(stores) == [dead.id, waiting]


async def test_a_worker_that_was_only_slow_has_its_task_again_when_it_renews(stores: StoreFixture) -> None:
    slow = await stores.start()
    await stores.store.pause(QUEUE)
    await stores.lapse(slow.id)
    assert await claimed(stores) == []

    assert await stores.renew((slow.id, slow.fence)) == []
    assert await stores.finish(slow) == "finished"


async def test_a_delayed_task_and_an_answered_one_wait_for_the_end_of_the_pause(stores: StoreFixture) -> None:
    delayed = await stores.start()
    await stores.release(delayed, delay=60)
    await stores.store.pause(TOOL)
    await stores.lapse(delayed.id)

    assert await claimed(stores) == []
    assert await claimed(stores) == []
    await stores.store.resume(TOOL)
    assert await claimed(stores) == [delayed.id]


async def test_a_deadline_counts_during_a_pause_and_a_held_task_can_be_cancelled(stores: StoreFixture) -> None:
    late, cancelled = await stores.create(deadline=timedelta(milliseconds=1)), await stores.create()
    await stores.store.pause(QUEUE)
    assert await stores.store.cancel(cancelled, OWNER)
    await stores.wait_until_ms((await stores.record(late)).created_ms + 2)

    await stores.ann.reconcile(HOUR)
    await claimed(stores)

    assert (await stores.record(late)).reason == "deadline"
    assert (await stores.found()).members(stores.keys.queue("default")) == {}


async def test_what_an_interrupted_end_of_a_pause_left_is_put_back_in_order_by_the_reconciler(
    stores: StoreFixture,
) -> None:
    tasks = [await stores.create() for _ in range(20)]
    await stores.store.pause(QUEUE)
    await stores.redis.hdel(stores.keys.paused, QUEUE.field)

    assert await stores.ann.reconcile(HOUR) == 20
    assert await claimed(stores) == tasks


async def test_a_long_queue_is_held_and_given_back_in_parts(stores: StoreFixture) -> None:
    tasks = [await stores.create(tool="dig" if number % 3 else "count") for number in range(1101)]
    await stores.store.pause(TOOL)

    (count,) = (await stores.store.stats(["default"])).queues
    assert (count.due, count.held) == (734, 367)
    await stores.store.resume(TOOL)
    assert len(await claimed(stores, room=1000)) + len(await claimed(stores, room=1000)) == len(tasks)


async def test_who_pauses_nothing_pays_no_command_for_it(stores: StoreFixture) -> None:
    for _ in range(3):
        await stores.create()
    await stores.claim()
    await stores.redis.config_resetstat()

    await stores.claim(room=2)

    stats = await stores.redis.info("commandstats")
    assert "cmdstat_hkeys" not in stats
    assert stats["cmdstat_hmget"]["calls"] == 3, "two records and the epoch"
