"""Looking: one consistent reading in one round trip, and only for the owner."""

import pytest

from taskmill.engine.errors import TaskNotFound
from taskmill.store.tasks.tasks import OPERATOR
from tests.support.store_fixture import DONE, OWNER, STRANGER, StoreFixture, question


async def test_a_stranger_and_an_unknown_id_get_the_same_answer(stores: StoreFixture) -> None:
    """I13; another principal's task must look as if it did not exist."""
    task_id = await stores.create()

    stat = []
    for wanted, principal in ((task_id, STRANGER), (task_id, "anonymous"), ("never-seen", OWNER), ("", OPERATOR)):
        with pytest.raises(TaskNotFound) as refused:
            await stores.store.read(wanted, principal)
        stat.append(str(refused.value))
    assert len(set(stat)) == 1


async def test_an_operator_sees_every_task(stores: StoreFixture) -> None:
    task_id = await stores.create()

    assert await stores.store.read(task_id, OPERATOR) == await stores.store.read(task_id, OWNER)


async def test_a_pending_task_shows_its_position_in_the_queue_and_no_other_does(stores: StoreFixture) -> None:
    first, second, third = [await stores.create() for _ in range(3)]
    assert [(await stores.read(task_id)).ahead for task_id in (first, second, third)] == [0, 1, 2]

    claimed = await stores.take(first)
    assert [(await stores.read(task_id)).ahead for task_id in (first, second, third)] == [None, 0, 1]

    await stores.finish(claimed)
    await stores.store.cancel(second, OWNER)
    assert [(await stores.read(task_id)).ahead for task_id in (first, second, third)] == [None, None, 0]


async def test_position_questions_and_outcome_come_with_one_command(stores: StoreFixture) -> None:
    pending, asking, finished = await stores.create(queue="slow"), await stores.start(), await stores.start()
    await stores.ann.ask(asking.id, 1, [question(1)])
    await stores.finish(finished)
    await stores.read(pending)  # Redis knows the script from here on

    for task_id, seen in ((pending, (0, {}, None)), (asking.id, (None, {"input-1": {"message": "sure?"}}, None))):
        view, calls = await counted(stores, task_id)
        assert ((view.ahead, view.questions, view.outcome), calls) == (seen, 1)
    view, calls = await counted(stores, finished.id)
    assert ((view.ahead, view.questions, view.outcome), calls) == ((None, {}, DONE), 1)


async def counted(stores: StoreFixture, task_id: str):  # type: ignore[no-untyped-def]
    """A look, and how many commands other than those of its script Redis was sent for it."""
    await stores.redis.config_resetstat()
    view = await stores.store.read(task_id, OWNER)
    stats = await stores.redis.info("commandstats")
    inside = {"hgetall", "zrank", "get", "info", "config|resetstat", "config"}
    return view, sum(stat["calls"] for name, stat in stats.items() if name.removeprefix("cmdstat_") not in inside)


async def test_history_goes_on_from_any_event(stores: StoreFixture) -> None:
    claimed = await stores.start()
    await stores.finish(claimed)
    whole = await stores.store.history(claimed.id)

    assert [event.seq for event in whole] == [1, 2, 3]
    assert [await stores.store.history(claimed.id, after=at) for at in (0, 1, 2, 3, 9)] == [
        whole,
        whole[1:],
        whole[2:],
        [],
        [],
    ]
    assert await stores.store.history("never-seen") == []


async def test_every_replica_shares_one_secret(stores: StoreFixture) -> None:
    secrets = [await stores.with_settings().store.shared_secrets() for _ in range(3)]

    assert [len(secret) for (secret,) in secrets] == [32, 32, 32]
    assert len(set(secrets)) == 1


async def test_with_seal_keys_they_are_the_shared_secrets_and_redis_holds_none(stores: StoreFixture) -> None:
    sealed = stores.with_settings(seal_keys=(b"a" * 32, b"b" * 32))

    assert await sealed.store.shared_secrets() == (b"a" * 32, b"b" * 32)
    assert (await stores.found()).values == {}


async def test_two_prefixes_in_one_redis_do_not_see_each_other(stores: StoreFixture) -> None:
    other = stores.with_settings(prefix="staging")
    task_id = await stores.create()

    with pytest.raises(TaskNotFound):
        await other.read(task_id)
    assert (await other.claim()).tasks == []
    assert await stores.take(task_id)


async def test_tasks_are_due_while_a_worker_could_claim_them(stores: StoreFixture) -> None:
    assert await stores.store.due("default") == 0
    await stores.create()
    held, released = await stores.start(), await stores.start()
    await stores.create(queue="other")
    assert await stores.store.due("default") == 1, "what a worker holds is not due"

    await stores.release(released, delay=30)
    assert await stores.store.due("default") == 1, "nor is what waits for its next attempt"
    await stores.lapse(released.id)
    await stores.lapse(held.id)
    assert await stores.store.due("default") == 3, "but a dead worker's task is"
