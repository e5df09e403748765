"""Rerun: the same call again as another task, as long as its arguments are kept."""

import base64
import json
from dataclasses import replace

import pytest

from taskmill.engine.errors import NotRepeatable, QuotaExceeded, TaskNotFound
from taskmill.engine.outcome import Failed, Fault, Outcome, Refused, Returned
from taskmill.engine.status import Status
from taskmill.store.tasks.redis_store import RedisTaskStore
from taskmill.store.tasks.tasks import OPERATOR
from tests.support.store_fixture import DONE, OWNER, STRANGER, StoreFixture

REFUSED = Refused(-1, "no")


async def failed(stores: StoreFixture, outcome: Outcome = REFUSED, **changes: object) -> str:
    """A task that ended without success; its id."""
    claimed = await stores.start(**changes)
    await stores.finish(claimed, outcome)
    return claimed.id


@pytest.mark.parametrize(
    "outcome",
    [Refused(-1, "no"), Failed(Fault.TIMEOUT, "too long"), Returned({}, is_error=True), None],
    ids=["protocol error", "fault", "tool error", "cancelled"],
)
async def test_what_did_not_succeed_can_be_run_again(stores: StoreFixture, outcome: Outcome | None) -> None:
    claimed = await stores.start(arguments={"path": "/a"}, tool="dig", listed_for=OWNER)
    await (stores.finish(claimed, outcome) if outcome else stores.store.cancel(claimed.id, OWNER))
    before = await stores.record(claimed.id)

    again = await stores.store.rerun(claimed.id, OWNER)

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
    assert (await stores.read(record.id)).record == record
    assert stores.ann.arguments(await stores.take(record.id)) == {"path": "/a"}
    assert [view.record.id for view in (await stores.store.page(OWNER)).views] == [record.id, claimed.id]


async def test_the_two_tasks_name_each_other_and_the_old_one_is_otherwise_as_it_was(stores: StoreFixture) -> None:
    task_id = await failed(stores)
    before = await stores.read(task_id)
    events = await stores.store.history(task_id)

    first, second = [(await stores.store.rerun(task_id, OWNER)).record.id for _ in range(2)]

    assert first != second
    assert await stores.read(task_id) == replace(before, rerun_as=second)
    assert await stores.store.history(task_id) == events
    assert (await stores.store.history(first))[0].facts["rerun_of"] == task_id


async def test_a_task_that_was_run_again_is_no_dead_letter_any_more(stores: StoreFixture) -> None:
    late = Failed(Fault.TIMEOUT, "It ran too long.")
    repeated, left = await failed(stores, late), await failed(stores, late)

    await stores.store.rerun(repeated, OWNER)

    letters = await stores.store.dead_letters(limit=10)
    assert [view.record.id for view in letters.views] == [left]


async def test_a_rerun_of_a_rerun_keeps_the_whole_chain(stores: StoreFixture) -> None:
    ids = [await failed(stores)]
    for _ in range(2):
        again = (await stores.store.rerun(ids[-1], OWNER)).record.id
        await stores.finish(await stores.take(again), Refused(-1, "no"))
        ids.append(again)

    views = [await stores.read(task_id) for task_id in ids]
    assert [(view.record.rerun_of, view.rerun_as) for view in views] == [
        (None, ids[1]),
        (ids[0], ids[2]),
        (ids[1], None),
    ]


async def test_a_rerun_called_twice_with_one_key_is_one_task(stores: StoreFixture) -> None:
    """The reply was lost."""
    task_id = await failed(stores)
    first = await stores.store.rerun(task_id, OWNER, once="click 1")

    async with stores.nothing_changes():
        assert (await stores.store.rerun(task_id, OWNER, once="click 1")).record == first.record
    await stores.finish(await stores.take(first.record.id), REFUSED)
    assert await stores.store.rerun(task_id, OWNER, once="click 1") == await stores.read(first.record.id)
    other = await stores.store.rerun(task_id, OWNER, once="click 2")
    elsewhere = await stores.store.rerun(await failed(stores), OWNER, once="click 1")

    assert len({first.record.id, other.record.id, elsewhere.record.id}) == 3


async def test_an_operators_rerun_belongs_to_the_tasks_owner(stores: StoreFixture) -> None:
    task_id = await failed(stores, listed_for="session:17")

    again = (await stores.store.rerun(task_id, OPERATOR)).record

    assert again.principal == OWNER
    assert [view.record.id for view in (await stores.store.page("session:17")).views] == [again.id, task_id]


async def test_a_rerun_counts_against_its_owners_quota_and_leaves_nothing_when_refused(stores: StoreFixture) -> None:
    strict = stores.with_settings(open_limit=1)
    task_id = await failed(strict)
    await strict.create()

    async with strict.nothing_changes():
        with pytest.raises(QuotaExceeded):
            await strict.store.rerun(task_id, OWNER)
        with pytest.raises(QuotaExceeded):
            await strict.store.rerun(task_id, OPERATOR)


async def test_another_principals_task_is_not_found_and_not_run(stores: StoreFixture) -> None:
    task_id = await failed(stores)

    async with stores.nothing_changes():
        for wanted, principal in ((task_id, STRANGER), ("never-seen", OWNER), ("never-seen", OPERATOR)):
            with pytest.raises(TaskNotFound):
                await stores.store.rerun(wanted, principal)


async def test_an_open_task_is_not_run_a_second_time(stores: StoreFixture) -> None:
    task_id = await stores.create()

    async with stores.nothing_changes():
        with pytest.raises(NotRepeatable, match="has not ended yet"):
            await stores.store.rerun(task_id, OWNER)


async def test_the_arguments_of_a_task_that_succeeded_are_deleted_and_its_rerun_is_refused(
    stores: StoreFixture,
) -> None:
    task_id = await failed(stores, DONE)

    assert stores.keys.args(task_id) not in (await stores.found()).values
    with pytest.raises(NotRepeatable, match="succeeded, so its arguments were not kept"):
        await stores.store.rerun(task_id, OWNER)


async def test_kept_arguments_last_as_long_as_the_task_can_be_read(stores: StoreFixture) -> None:
    task_id = await failed(stores)

    ttls = (await stores.found()).ttls
    assert 0 <= ttls[stores.keys.record(task_id)] - ttls[stores.keys.args(task_id)] <= 5 or (
        0 <= ttls[stores.keys.args(task_id)] - ttls[stores.keys.record(task_id)] <= 5
    )


async def test_sealed_arguments_are_sealed_again_for_the_new_task(stores: StoreFixture) -> None:
    """The id is bound to the seal, so a copy could not be opened."""
    sealed = stores.with_settings(seal_keys=base64.b64encode(b"k" * 32).decode())
    task_id = await failed(sealed, arguments={"password": "open sesame"})

    again = await sealed.store.rerun(task_id, OWNER)

    stored = (await sealed.found()).values[sealed.keys.args(again.record.id)]
    assert b"sesame" not in stored
    assert sealed.ann.arguments(await sealed.take(again.record.id)) == {"password": "open sesame"}


async def test_a_key_of_a_rerun_makes_one_task_while_the_seal_keys_are_exchanged(stores: StoreFixture) -> None:
    """Replicas of a rolling deploy have the same keys in another order."""
    old, new = (stores.with_settings(seal_keys=ring) for ring in ((b"o" * 32, b"n" * 32), (b"n" * 32, b"o" * 32)))
    for first, second in ((old, new), (new, old)):
        task_id = await failed(first)
        made = await first.store.rerun(task_id, OWNER, once="once")
        assert (await second.store.rerun(task_id, OWNER, once="once")).record.id == made.record.id


async def test_a_rerun_counts_as_a_task_of_the_deployments_retention_limit(stores: StoreFixture) -> None:
    task_id = await failed(stores)
    short = stores.with_settings(retention_limit=60)

    assert (await short.store.rerun(task_id, OWNER)).record.retention_ms == 60_000


async def test_the_payload_is_carried_over_whole(stores: StoreFixture) -> None:
    payload = {"arguments": {"n": 1}, "client": {"info": {"name": "desk"}}, "inputs": {"requestState": "x"}}
    task = stores.task(arguments=payload)
    await stores.store.create(task)
    await stores.store.cancel(task.id, OWNER)

    again = await RedisTaskStore(stores.redis, stores.settings).rerun(task.id, OWNER)

    assert json.loads(await stores.redis.get(stores.keys.args(again.record.id))) == payload
