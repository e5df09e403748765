"""Rerun: the same call again as another task, as long as its arguments are kept."""

import base64
import json
from dataclasses import replace

import pytest

from taskmill.engine.errors import NotRepeatable, QuotaExceeded, TaskNotFound
from taskmill.engine.outcome import Broke, Fault, Outcome, Refused, Returned
from taskmill.engine.status import Status
from taskmill.store.tasks.tasks import OPERATOR, TaskStore
from tests.support.store_fixture import DONE, OWNER, STRANGER, Depot

REFUSED = Refused(-1, "no")


async def failed(depot: Depot, outcome: Outcome = REFUSED, **changes: object) -> str:
    """A task that ended without success; its id."""
    claimed = await depot.start(**changes)
    await depot.finish(claimed, outcome)
    return claimed.id


@pytest.mark.parametrize(
    "outcome",
    [Refused(-1, "no"), Broke(Fault.TIMEOUT, "too long"), Returned({}, is_error=True), None],
    ids=["protocol error", "fault", "tool error", "cancelled"],
)
async def test_what_did_not_succeed_can_be_run_again(depot: Depot, outcome: Outcome | None) -> None:
    claimed = await depot.start(arguments={"path": "/a"}, tool="dig", listed_for=OWNER)
    await (depot.finish(claimed, outcome) if outcome else depot.store.cancel(claimed.id, OWNER))
    before = await depot.record(claimed.id)

    again = await depot.store.rerun(claimed.id, OWNER)

    record = again.record
    assert record == replace(
        before,
        id=record.id,
        status=Status.PENDING,
        created_ms=record.created_ms,
        updated_ms=record.created_ms,
        seq=1,
        fence=0,
        attempt=0,
        worker=None,
        started_ms=None,
        ended_ms=None,
        reason=None,
        rerun_of=claimed.id,
    )
    assert (await depot.look(record.id)).record == record
    assert depot.ann.arguments(await depot.take(record.id)) == {"path": "/a"}
    assert [view.record.id for view in (await depot.store.page(OWNER)).views] == [record.id, claimed.id]


async def test_the_two_tasks_name_each_other_and_the_old_one_is_otherwise_as_it_was(depot: Depot) -> None:
    task_id = await failed(depot)
    before = await depot.look(task_id)
    events = await depot.store.history(task_id)

    first, second = [(await depot.store.rerun(task_id, OWNER)).record.id for _ in range(2)]

    assert first != second
    assert await depot.look(task_id) == replace(before, rerun_as=second)
    assert await depot.store.history(task_id) == events
    assert (await depot.store.history(first))[0].facts["rerun_of"] == task_id


async def test_a_rerun_of_a_rerun_keeps_the_whole_chain(depot: Depot) -> None:
    ids = [await failed(depot)]
    for _ in range(2):
        again = (await depot.store.rerun(ids[-1], OWNER)).record.id
        await depot.finish(await depot.take(again), Refused(-1, "no"))
        ids.append(again)

    views = [await depot.look(task_id) for task_id in ids]
    assert [(view.record.rerun_of, view.rerun_as) for view in views] == [
        (None, ids[1]),
        (ids[0], ids[2]),
        (ids[1], None),
    ]


async def test_a_rerun_said_twice_with_one_key_is_one_task(depot: Depot) -> None:
    """The reply was lost."""
    task_id = await failed(depot)
    first = await depot.store.rerun(task_id, OWNER, once="click 1")

    async with depot.nothing_changes():
        assert (await depot.store.rerun(task_id, OWNER, once="click 1")).record == first.record
    await depot.finish(await depot.take(first.record.id), REFUSED)
    assert await depot.store.rerun(task_id, OWNER, once="click 1") == await depot.look(first.record.id)
    other = await depot.store.rerun(task_id, OWNER, once="click 2")
    elsewhere = await depot.store.rerun(await failed(depot), OWNER, once="click 1")

    assert len({first.record.id, other.record.id, elsewhere.record.id}) == 3


async def test_an_operators_rerun_belongs_to_the_tasks_owner(depot: Depot) -> None:
    task_id = await failed(depot, listed_for="session:17")

    again = (await depot.store.rerun(task_id, OPERATOR)).record

    assert again.principal == OWNER
    assert [view.record.id for view in (await depot.store.page("session:17")).views] == [again.id, task_id]


async def test_a_rerun_counts_against_its_owners_quota_and_leaves_nothing_when_refused(depot: Depot) -> None:
    strict = depot.with_settings(open_limit=1)
    task_id = await failed(strict)
    await strict.create()

    async with strict.nothing_changes():
        with pytest.raises(QuotaExceeded):
            await strict.store.rerun(task_id, OWNER)
        with pytest.raises(QuotaExceeded):
            await strict.store.rerun(task_id, OPERATOR)


async def test_somebody_elses_task_is_not_found_and_not_run(depot: Depot) -> None:
    task_id = await failed(depot)

    async with depot.nothing_changes():
        for wanted, principal in ((task_id, STRANGER), ("never-seen", OWNER), ("never-seen", OPERATOR)):
            with pytest.raises(TaskNotFound):
                await depot.store.rerun(wanted, principal)


async def test_an_open_task_is_not_run_a_second_time(depot: Depot) -> None:
    task_id = await depot.create()

    async with depot.nothing_changes():
        with pytest.raises(NotRepeatable, match="has not ended yet"):
            await depot.store.rerun(task_id, OWNER)


async def test_the_arguments_of_a_task_that_succeeded_are_gone_and_its_rerun_says_so(depot: Depot) -> None:
    task_id = await failed(depot, DONE)

    assert depot.keys.args(task_id) not in (await depot.found()).values
    with pytest.raises(NotRepeatable, match="succeeded, so its arguments were not kept"):
        await depot.store.rerun(task_id, OWNER)


async def test_kept_arguments_last_as_long_as_the_task_can_be_read(depot: Depot) -> None:
    task_id = await failed(depot)

    ttls = (await depot.found()).ttls
    assert 0 <= ttls[depot.keys.record(task_id)] - ttls[depot.keys.args(task_id)] <= 5 or (
        0 <= ttls[depot.keys.args(task_id)] - ttls[depot.keys.record(task_id)] <= 5
    )


async def test_sealed_arguments_are_sealed_again_for_the_new_task(depot: Depot) -> None:
    """The id is bound to the seal, so a copy could not be opened."""
    sealed = depot.with_settings(seal_keys=base64.b64encode(b"k" * 32).decode())
    task_id = await failed(sealed, arguments={"password": "open sesame"})

    again = await sealed.store.rerun(task_id, OWNER)

    stored = (await sealed.found()).values[sealed.keys.args(again.record.id)]
    assert b"sesame" not in stored
    assert sealed.ann.arguments(await sealed.take(again.record.id)) == {"password": "open sesame"}


async def test_a_rerun_counts_as_a_task_of_the_deployments_retention_limit(depot: Depot) -> None:
    task_id = await failed(depot)
    short = depot.with_settings(retention_limit=60)

    assert (await short.store.rerun(task_id, OWNER)).record.retention_ms == 60_000


async def test_the_payload_is_carried_over_whole(depot: Depot) -> None:
    payload = {"arguments": {"n": 1}, "client": {"info": {"name": "desk"}}, "inputs": {"requestState": "x"}}
    task = depot.task(arguments=payload)
    await depot.store.create(task)
    await depot.store.cancel(task.id, OWNER)

    again = await TaskStore(depot.redis, depot.settings).rerun(task.id, OWNER)

    assert json.loads(await depot.redis.get(depot.keys.args(again.record.id))) == payload
