"""Looking: one consistent reading in one round trip, and only for the owner."""

import pytest

from taskmill.engine.errors import TaskNotFound
from taskmill.store.tasks.tasks import OPERATOR
from tests.support.store_fixture import DONE, OWNER, STRANGER, Depot, question


async def test_a_stranger_and_an_unknown_id_get_the_same_answer(depot: Depot) -> None:
    """I13; somebody else's task must not even be known to exist."""
    task_id = await depot.create()

    said = []
    for wanted, principal in ((task_id, STRANGER), (task_id, "anonymous"), ("never-seen", OWNER), ("", OPERATOR)):
        with pytest.raises(TaskNotFound) as refused:
            await depot.store.look(wanted, principal)
        said.append(str(refused.value))
    assert len(set(said)) == 1


async def test_an_operator_sees_every_task(depot: Depot) -> None:
    task_id = await depot.create()

    assert await depot.store.look(task_id, OPERATOR) == await depot.store.look(task_id, OWNER)


async def test_a_pending_task_shows_its_place_in_the_queue_and_no_other_does(depot: Depot) -> None:
    first, second, third = [await depot.create() for _ in range(3)]
    assert [(await depot.look(task_id)).ahead for task_id in (first, second, third)] == [0, 1, 2]

    claimed = await depot.take(first)
    assert [(await depot.look(task_id)).ahead for task_id in (first, second, third)] == [None, 0, 1]

    await depot.finish(claimed)
    await depot.store.cancel(second, OWNER)
    assert [(await depot.look(task_id)).ahead for task_id in (first, second, third)] == [None, None, 0]


async def test_position_questions_and_outcome_come_with_one_command(depot: Depot) -> None:
    pending, asking, finished = await depot.create(queue="slow"), await depot.start(), await depot.start()
    await depot.ann.ask(asking.id, 1, [question(1)])
    await depot.finish(finished)
    await depot.look(pending)  # Redis knows the script from here on

    for task_id, seen in ((pending, (0, {}, None)), (asking.id, (None, {"input-1": {"message": "sure?"}}, None))):
        view, calls = await counted(depot, task_id)
        assert ((view.ahead, view.questions, view.outcome), calls) == (seen, 1)
    view, calls = await counted(depot, finished.id)
    assert ((view.ahead, view.questions, view.outcome), calls) == ((None, {}, DONE), 1)


async def counted(depot: Depot, task_id: str):  # type: ignore[no-untyped-def]
    """A look, and how many commands other than those of its script Redis was sent for it."""
    await depot.redis.config_resetstat()
    view = await depot.store.look(task_id, OWNER)
    stats = await depot.redis.info("commandstats")
    inside = {"hgetall", "zrank", "get", "info", "config|resetstat", "config"}
    return view, sum(said["calls"] for name, said in stats.items() if name.removeprefix("cmdstat_") not in inside)


async def test_history_goes_on_from_any_event(depot: Depot) -> None:
    claimed = await depot.start()
    await depot.finish(claimed)
    whole = await depot.store.history(claimed.id)

    assert [event.seq for event in whole] == [1, 2, 3]
    assert [await depot.store.history(claimed.id, after=at) for at in (0, 1, 2, 3, 9)] == [
        whole,
        whole[1:],
        whole[2:],
        [],
        [],
    ]
    assert await depot.store.history("never-seen") == []


async def test_every_replica_shares_one_secret(depot: Depot) -> None:
    secrets = [await depot.with_settings().store.shared_secret() for _ in range(3)]

    assert [len(secret) for secret in secrets] == [32, 32, 32]
    assert len(set(secrets)) == 1


async def test_with_seal_keys_the_first_of_them_is_the_shared_secret_and_redis_holds_none(depot: Depot) -> None:
    sealed = depot.with_settings(seal_keys=(b"a" * 32, b"b" * 32))

    assert await sealed.store.shared_secret() == b"a" * 32
    assert (await depot.found()).values == {}


async def test_two_prefixes_in_one_redis_do_not_see_each_other(depot: Depot) -> None:
    other = depot.with_settings(prefix="staging")
    task_id = await depot.create()

    with pytest.raises(TaskNotFound):
        await other.look(task_id)
    assert (await other.claim()).tasks == []
    assert await depot.take(task_id)


async def test_tasks_are_due_while_a_worker_could_claim_them(depot: Depot) -> None:
    assert await depot.store.due("default") == 0
    await depot.create()
    held, released = await depot.start(), await depot.start()
    await depot.create(queue="other")
    assert await depot.store.due("default") == 1, "what a worker holds is not due"

    await depot.release(released, delay=30)
    assert await depot.store.due("default") == 1, "nor is what waits for its next attempt"
    await depot.lapse(released.id)
    await depot.lapse(held.id)
    assert await depot.store.due("default") == 3, "but a dead worker's task is"
