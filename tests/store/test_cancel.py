"""Cancel: at once, for good, whichever worker has the task."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from taskmill.engine.errors import FenceLost, TaskNotFound
from taskmill.engine.events import Event
from taskmill.engine.record import TaskView
from taskmill.engine.status import Move, Status
from taskmill.store.tasks.tasks import OPERATOR
from tests.support.store_fixture import OWNER, STRANGER, StoreFixture, question


async def pending(stores: StoreFixture) -> str:
    return await stores.create()


async def running(stores: StoreFixture) -> str:
    return (await stores.start()).id


async def released(stores: StoreFixture) -> str:
    claimed = await stores.start()
    await stores.release(claimed, delay=60, reason="retry")
    return claimed.id


async def lapsed(stores: StoreFixture) -> str:
    claimed = await stores.start()
    await stores.lapse(claimed.id)
    return claimed.id


async def asking(stores: StoreFixture) -> str:
    claimed = await stores.start()
    await stores.ann.ask(claimed.id, 1, [question(1)])
    return claimed.id


@pytest.mark.parametrize("state", [pending, running, released, lapsed, asking])
async def test_a_task_in_any_open_state_is_cancelled_at_once_and_stays_so(
    stores: StoreFixture, state: Callable[[StoreFixture], Awaitable[str]]
) -> None:
    task_id = await state(stores)
    before = await stores.record(task_id)

    assert await stores.store.cancel(task_id, OWNER, reason="user pressed stop") is True

    after = await stores.read(task_id)
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
    assert await stores.store.history(task_id, after=before.seq) == [
        Event(before.seq + 1, Move.CANCEL, now, {"fence": fence, "reason": "user pressed stop"})
    ]
    assert (await stores.claim(room=9)).tasks == []
    assert await stores.store.cancel(task_id, OWNER) is False
    assert await stores.read(task_id) == after


async def test_a_cancel_leaves_only_record_history_and_what_a_rerun_needs(stores: StoreFixture) -> None:
    task_id = await asking(stores)

    await stores.store.cancel(task_id, OWNER)

    keys = stores.keys
    kept = [
        keys.record(task_id),
        keys.events(task_id),
        keys.args(task_id),
        keys.all,
        keys.fading,
        keys.ended,
        keys.epoch,
        keys.kept(OWNER),
    ]
    assert sorted((await stores.found()).values) == sorted(kept)


async def test_a_repeated_cancel_learns_that_the_task_has_ended_and_changes_nothing(stores: StoreFixture) -> None:
    task_id = await running(stores)
    await stores.store.cancel(task_id, OWNER)

    async with stores.nothing_changes():
        assert await stores.store.cancel(task_id, OWNER, reason="again") is False


async def test_a_cancel_of_a_finished_task_keeps_the_result(stores: StoreFixture) -> None:
    claimed = await stores.start()
    await stores.finish(claimed)

    async with stores.nothing_changes():
        assert await stores.store.cancel(claimed.id, OWNER) is False


@pytest.mark.parametrize("principal", [STRANGER, "anonymous", OWNER[:-1], OWNER.upper()])
async def test_another_principals_task_cannot_be_cancelled_and_looks_unknown(
    stores: StoreFixture, principal: str
) -> None:
    """I13."""
    task_id = await running(stores)

    async with stores.nothing_changes():
        with pytest.raises(TaskNotFound) as foreign:
            await stores.store.cancel(task_id, principal)
        with pytest.raises(TaskNotFound) as unknown:
            await stores.store.cancel("never-seen", principal)

    assert str(foreign.value) == str(unknown.value)


async def test_an_operator_can_cancel_any_task_that_exists(stores: StoreFixture) -> None:
    task_id = await running(stores)

    assert await stores.store.cancel(task_id, OPERATOR) is True
    with pytest.raises(TaskNotFound):
        await stores.store.cancel("never-seen", OPERATOR)


async def test_a_cancel_is_signalled_to_the_worker_that_has_the_task(stores: StoreFixture) -> None:
    task_id = await running(stores)
    async with stores.redis.pubsub(ignore_subscribe_messages=True) as ear:
        await ear.subscribe(stores.keys.signal("ann"))
        await ear.get_message(timeout=5)

        await stores.store.cancel(task_id, OWNER)

        message = await ear.get_message(timeout=5)
    assert message is not None
    assert message["data"] == f"cancel {task_id}".encode()


async def test_a_worker_whose_task_was_cancelled_can_say_nothing_more(stores: StoreFixture) -> None:
    task_id = await running(stores)
    await stores.store.cancel(task_id, OWNER)

    async with stores.nothing_changes():
        assert await stores.renew((task_id, 1)) == [task_id]
        with pytest.raises(FenceLost):
            await stores.ann.ask(task_id, 1, [question(1)])
        assert not await stores.ann.is_open(task_id)
