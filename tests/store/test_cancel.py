"""Cancel: at once, for good, whoever has the task."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from taskmill.engine.errors import FenceLost, TaskNotFound
from taskmill.engine.events import Event
from taskmill.engine.record import TaskView
from taskmill.engine.status import Move, Status
from taskmill.store.tasks.tasks import OPERATOR
from tests.support.store_fixture import OWNER, STRANGER, Depot, question


async def pending(depot: Depot) -> str:
    return await depot.create()


async def running(depot: Depot) -> str:
    return (await depot.start()).id


async def released(depot: Depot) -> str:
    claimed = await depot.start()
    await depot.release(claimed, delay=60, reason="retry")
    return claimed.id


async def lapsed(depot: Depot) -> str:
    claimed = await depot.start()
    await depot.lapse(claimed.id)
    return claimed.id


async def asking(depot: Depot) -> str:
    claimed = await depot.start()
    await depot.ann.ask(claimed.id, 1, [question(1)])
    return claimed.id


@pytest.mark.parametrize("state", [pending, running, released, lapsed, asking])
async def test_a_task_in_any_open_state_is_cancelled_at_once_and_stays_so(
    depot: Depot, state: Callable[[Depot], Awaitable[str]]
) -> None:
    task_id = await state(depot)
    before = await depot.record(task_id)

    assert await depot.store.cancel(task_id, OWNER, reason="user pressed stop") is True

    after = await depot.look(task_id)
    now, fence = after.record.updated_ms, before.fence + 1
    cancelled = replace(
        before,
        status=Status.CANCELLED,
        updated_ms=now,
        ended_ms=now,
        seq=before.seq + 1,
        fence=fence,
        reason="user pressed stop",
        questions=0,
    )
    assert after == TaskView(cancelled)
    assert await depot.store.history(task_id, after=before.seq) == [
        Event(before.seq + 1, Move.CANCEL, now, {"fence": fence, "reason": "user pressed stop"})
    ]
    assert (await depot.claim(room=9)).tasks == []
    assert await depot.store.cancel(task_id, OWNER) is False
    assert await depot.look(task_id) == after


async def test_a_cancel_leaves_only_record_history_and_what_a_rerun_needs(depot: Depot) -> None:
    task_id = await asking(depot)

    await depot.store.cancel(task_id, OWNER)

    keys = depot.keys
    kept = [
        keys.record(task_id),
        keys.events(task_id),
        keys.args(task_id),
        keys.all,
        keys.fading,
        keys.ended,
        keys.epoch,
    ]
    assert sorted((await depot.found()).values) == sorted(kept)


async def test_a_repeated_cancel_is_told_that_the_task_has_ended_and_changes_nothing(depot: Depot) -> None:
    task_id = await running(depot)
    await depot.store.cancel(task_id, OWNER)

    async with depot.nothing_changes():
        assert await depot.store.cancel(task_id, OWNER, reason="again") is False


async def test_a_cancel_of_a_finished_task_keeps_the_result(depot: Depot) -> None:
    claimed = await depot.start()
    await depot.finish(claimed)

    async with depot.nothing_changes():
        assert await depot.store.cancel(claimed.id, OWNER) is False


@pytest.mark.parametrize("principal", [STRANGER, "anonymous", OWNER[:-1], OWNER.upper()])
async def test_somebody_elses_task_cannot_be_cancelled_and_looks_unknown(depot: Depot, principal: str) -> None:
    """I13."""
    task_id = await running(depot)

    async with depot.nothing_changes():
        with pytest.raises(TaskNotFound) as foreign:
            await depot.store.cancel(task_id, principal)
        with pytest.raises(TaskNotFound) as unknown:
            await depot.store.cancel("never-seen", principal)

    assert str(foreign.value) == str(unknown.value)


async def test_an_operator_can_cancel_any_task_that_exists(depot: Depot) -> None:
    task_id = await running(depot)

    assert await depot.store.cancel(task_id, OPERATOR) is True
    with pytest.raises(TaskNotFound):
        await depot.store.cancel("never-seen", OPERATOR)


async def test_a_cancel_is_signalled_to_the_worker_that_has_the_task(depot: Depot) -> None:
    task_id = await running(depot)
    async with depot.redis.pubsub(ignore_subscribe_messages=True) as ear:
        await ear.subscribe(depot.keys.signal("ann"))
        await ear.get_message(timeout=5)

        await depot.store.cancel(task_id, OWNER)

        message = await ear.get_message(timeout=5)
    assert message is not None
    assert message["data"] == f"cancel {task_id}".encode()


async def test_a_worker_whose_task_was_cancelled_can_say_nothing_more(depot: Depot) -> None:
    task_id = await running(depot)
    await depot.store.cancel(task_id, OWNER)

    async with depot.nothing_changes():
        assert await depot.renew((task_id, 1)) == [task_id]
        with pytest.raises(FenceLost):
            await depot.ann.ask(task_id, 1, [question(1)])
        assert not await depot.ann.is_open(task_id)
