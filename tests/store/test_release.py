"""Release: a task goes back to its queue, now or later, and no crash is counted."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from anyio import fail_after, sleep

from taskmill.engine.events import Event
from taskmill.engine.lifecycle import fold
from taskmill.engine.outcome import Failed, Fault
from taskmill.engine.record import TaskView
from taskmill.engine.status import Move, Status
from tests.support.store_fixture import OWNER, StoreFixture, question


async def test_a_released_task_is_pending_again_and_shows_why_and_since_when(stores: StoreFixture) -> None:
    claimed = await stores.start()
    before = await stores.record(claimed.id)

    assert await stores.release(claimed, failures=0, reason="drain") == "released"

    after = await stores.read(claimed.id)
    now = after.record.updated_ms
    released = replace(
        before, status=Status.PENDING, updated_ms=now, seq=3, worker=None, due_ms=after.record.due_ms, reason="drain"
    )
    released = replace(released, drains=1)
    assert after == TaskView(released, ahead=0)
    assert after.record.due_ms == pytest.approx(now, abs=1)
    assert (await stores.store.history(claimed.id, after=2)) == [
        Event(3, Move.RELEASE, now, {"failures": 0, "due_ms": after.record.due_ms, "reason": "drain", "drains": 1})
    ]
    assert await stores.redis.exists(stores.keys.in_progress(claimed.id)) == 0


async def test_a_released_task_is_claimed_again_without_a_crash(stores: StoreFixture) -> None:
    claimed = await stores.start()
    await stores.release(claimed, failures=1, reason="retry")

    again = await stores.take(claimed.id, stores.bob)

    assert again == replace(claimed, fence=2, attempt=2, failures=1, crashes=0)
    record = await stores.record(claimed.id)
    assert (record.due_ms, record.reason, record.worker, record.failures) == (None, None, "bob", 1)


async def test_a_delayed_release_is_due_after_its_delay_and_not_before(stores: StoreFixture) -> None:
    claimed = await stores.start()
    await stores.release(claimed, delay=0.3, failures=1, reason="retry")
    record = await stores.record(claimed.id)
    assert record.due_ms == record.updated_ms + 300

    with fail_after(30):
        while not (await stores.claim()).tasks:
            await sleep(0.01)

    assert (await stores.record(claimed.id)).updated_ms >= record.due_ms


async def test_tasks_released_together_are_claimed_in_the_order_of_their_release(stores: StoreFixture) -> None:
    """A worker that drains gives many back within a millisecond."""
    tasks = [await stores.start() for _ in range(100)]
    order = sorted(tasks, key=lambda task: task.id)[::-1]
    drain: dict[str, Any] = {"delay": timedelta(0), "failures": 0, "reason": "drain"}
    await stores.run(*(stores.ann.release_call(task.id, task.fence, **drain) for task in order))

    assert [task.id for task in (await stores.claim(room=100)).tasks] == [task.id for task in order]


async def test_a_task_that_drains_interrupt_without_end_fails_and_counts_no_crash(stores: StoreFixture) -> None:
    strict = stores.with_settings(drain_limit=20)
    claimed = await strict.start()
    replies = []
    for _ in range(20):
        replies.append(await strict.release(claimed, reason="drain"))
        claimed = await strict.take(claimed.id)
    assert [number for number, reply in enumerate(replies, 1) if reply == "released again"] == [10, 20]
    assert set(replies) == {"released", "released again"}
    assert (await strict.record(claimed.id)).drains == 20

    assert await strict.release(claimed, reason="drain") == "drained"

    after = await strict.read(claimed.id)
    assert (after.record.status, after.record.reason, after.record.crashes) == (Status.FAILED, "drained", 0)
    text = "Every worker that ran this task was stopped meanwhile (21 times)."
    assert after.outcome == Failed(Fault.DRAINED, text)
    history = await strict.store.history(claimed.id)
    assert (history[-1].move, history[-1].facts) == (Move.FAIL, {"drains": 21, "reason": "drained"})
    assert fold(history).drains == 21
    assert (await strict.claim()).tasks == []
    assert await strict.release(claimed, reason="drain") == "lost"


async def test_without_a_limit_drains_are_only_counted(stores: StoreFixture) -> None:
    free = stores.with_settings(drain_limit=0)
    claimed = await free.start()
    for _ in range(3):
        await free.release(claimed, reason="drain")
        claimed = await free.take(claimed.id)
    await free.release(claimed, reason="crashed", failures=1)

    record = await free.record(claimed.id)
    assert (record.status, record.drains, record.failures) == (Status.PENDING, 3, 1)


async def test_a_release_wakes_a_worker(stores: StoreFixture) -> None:
    claimed = await stores.start()
    assert await stores.redis.exists(stores.keys.wake("default")) == 0

    await stores.release(claimed)

    assert await stores.redis.llen(stores.keys.wake("default")) == 1  # type: ignore[misc]


async def test_a_repeated_release_is_too_late_and_changes_nothing(stores: StoreFixture) -> None:
    claimed = await stores.start()
    await stores.release(claimed, delay=9)

    async with stores.nothing_changes():
        assert await stores.release(claimed, delay=9) == "lost"


async def test_a_repeated_release_does_not_take_the_task_from_its_next_worker(stores: StoreFixture) -> None:
    claimed = await stores.start()
    await stores.release(claimed)
    await stores.take(claimed.id, stores.bob)

    async with stores.nothing_changes():
        assert await stores.release(claimed) == "lost"


@pytest.mark.parametrize("fence", [0, 2])
async def test_a_release_under_another_fence_is_lost_and_changes_nothing(stores: StoreFixture, fence: int) -> None:
    claimed = await stores.start()

    async with stores.nothing_changes():
        assert await stores.release(claimed, fence=fence) == "lost"


async def test_a_release_of_an_ended_or_unknown_task_is_lost_and_changes_nothing(stores: StoreFixture) -> None:
    finished, cancelled = await stores.start(), await stores.start()
    await stores.finish(finished)
    await stores.store.cancel(cancelled.id, OWNER)

    async with stores.nothing_changes():
        assert await stores.release(finished) == "lost"
        assert await stores.release(cancelled) == "lost"
        assert await stores.release(cancelled, fence=2) == "lost"
        assert await stores.release(replace(finished, id="never-seen")) == "lost"


async def test_a_task_that_waits_for_an_answer_can_be_given_back_with_its_question_open(stores: StoreFixture) -> None:
    claimed = await stores.start()
    await stores.ann.ask(claimed.id, 1, [question(1)])

    assert await stores.release(claimed) == "released"

    record = await stores.record(claimed.id)
    assert (record.status, record.questions) == (Status.PENDING, 1)
    assert await stores.store.answer(claimed.id, OWNER, {"input-1": {"yes": True}}) == 1
    again = await stores.take(claimed.id, stores.bob)
    assert await stores.bob.ask(claimed.id, again.fence, [question(1)]) == [{"yes": True}]
