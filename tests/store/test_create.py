"""Creation: durable, repeatable, bounded."""

from datetime import timedelta

import pytest
from arq.jobs import deserialize_job_raw

from taskmill.engine.errors import BadArguments, KeyReused, PayloadTooLarge, QuotaExceeded
from taskmill.engine.events import Event
from taskmill.engine.outcome import Broke, Fault, Returned
from taskmill.engine.record import TaskRecord, TaskView
from taskmill.engine.status import Move, Status
from taskmill.store.connection.client import connect
from taskmill.store.tasks.arq_job import job_from_json
from taskmill.store.tasks.tasks import TaskStore
from tests.support.store_fixture import OWNER, STRANGER, Depot


async def test_a_created_task_is_pending_and_reads_as_it_was_returned(depot: Depot) -> None:
    task = depot.task(queue="slow", retention=timedelta(minutes=5), poll_interval=timedelta(milliseconds=250))

    created = await depot.store.create(task)

    now = created.record.created_ms
    assert created == TaskView(
        TaskRecord(
            id=task.id,
            tool="count",
            queue="slow",
            principal=OWNER,
            status=Status.PENDING,
            created_ms=now,
            updated_ms=now,
            seq=1,
            retention_ms=300_000,
            poll_ms=250,
        ),
        ahead=0,
    )
    assert await depot.store.look(task.id, OWNER) == created


async def test_a_created_task_can_be_read_by_any_other_replica(depot: Depot) -> None:
    """Durable creation."""
    created = await depot.store.create(depot.task())

    async with connect(depot.settings) as other:
        assert await TaskStore(other, depot.settings).look(created.record.id, OWNER) == created


async def test_creation_is_the_first_event_and_says_what_the_task_is(depot: Depot) -> None:
    task_id = await depot.create()

    record = await depot.record(task_id)
    facts = {
        "id": task_id,
        "tool": "count",
        "queue": "default",
        "principal": OWNER,
        "retention_ms": 86_400_000,
        "poll_ms": 1000,
    }
    assert await depot.store.history(task_id) == [Event(1, Move.CREATE, record.created_ms, facts)]
    assert await depot.store.history(task_id, after=1) == []


async def test_a_created_task_has_these_keys_and_no_others(depot: Depot) -> None:
    task = depot.task(idempotency="key", listed_for=OWNER)
    await depot.store.create(task)

    found = await depot.found()

    keys = depot.keys
    assert sorted(found.values) == sorted(
        [
            keys.record(task.id),
            keys.events(task.id),
            keys.args(task.id),
            keys.job(task.id),
            keys.live,
            keys.all,
            keys.list(OWNER),
            keys.open(OWNER),
            keys.queue("default"),
            keys.pace("default"),
            keys.wake("default"),
            f"{keys.root}once:{OWNER}:key",
        ]
    )
    assert found.values[keys.args(task.id)] == task.payload
    assert found.record(task.id) == await depot.record(task.id)


async def test_a_created_task_is_a_job_that_arq_can_read(depot: Depot) -> None:
    task_id = await depot.create()

    stored = await depot.redis.get(depot.keys.job(task_id))

    job = deserialize_job_raw(stored, deserializer=job_from_json)
    assert job == ("taskmill", [task_id], {}, None, job[4])


async def test_creating_the_same_task_twice_creates_one(depot: Depot) -> None:
    """The reply was lost and the call came again."""
    task = depot.task()
    created = await depot.store.create(task)

    async with depot.nothing_changes():
        assert await depot.store.create(task) == created


async def test_a_repeated_creation_does_not_count_against_the_quota(depot: Depot) -> None:
    strict = depot.with_settings(open_limit=1, open_limit_total=1)
    task = strict.task()
    created = await strict.store.create(task)

    assert await strict.store.create(task) == created


async def test_a_repeated_creation_finds_the_task_as_it_is_by_now(depot: Depot) -> None:
    task = depot.task()
    await depot.store.create(task)
    claimed = await depot.take(task.id)
    assert (await depot.store.create(task)).record.status is Status.RUNNING

    await depot.finish(claimed)

    assert await depot.store.create(task) == await depot.look(task.id)


async def test_an_idempotency_key_is_answered_with_the_first_task_of_the_same_owner(depot: Depot) -> None:
    first = await depot.store.create(depot.task(idempotency="order 7"))

    async with depot.nothing_changes():
        assert await depot.store.create(depot.task(idempotency="order 7")) == first
    other = await depot.store.create(depot.task(idempotency="order 7", principal=STRANGER))
    another = await depot.store.create(depot.task(idempotency="order 8"))

    assert len({first.record.id, other.record.id, another.record.id}) == 3


async def test_an_idempotency_key_still_names_the_task_after_its_end(depot: Depot) -> None:
    claimed = await depot.start(idempotency="order 7")
    await depot.finish(claimed)

    assert await depot.store.create(depot.task(idempotency="order 7")) == await depot.look(claimed.id)


@pytest.mark.parametrize("ending", ["failed", "cancelled", "tool_error", "poisoned"])
async def test_an_idempotency_key_is_free_again_when_its_task_did_not_succeed(depot: Depot, ending: str) -> None:
    claimed = await depot.start(idempotency="order 7")
    if ending == "failed":
        await depot.finish(claimed, Broke(Fault.TIMEOUT, "too long"))
    elif ending == "cancelled":
        await depot.store.cancel(claimed.id, OWNER)
    elif ending == "tool_error":
        await depot.finish(claimed, Returned({}, is_error=True))
    else:
        for _ in range(depot.settings.crash_limit + 1):
            await depot.lapse(claimed.id)
            await depot.claim(ids=[claimed.id])

    again = await depot.create(idempotency="order 7")

    assert (await depot.record(claimed.id)).is_terminal
    assert again != claimed.id
    assert await depot.create(idempotency="order 7") == again


async def test_an_idempotency_key_that_stands_for_another_call_is_refused(depot: Depot) -> None:
    first = await depot.create(idempotency="click 1", idempotency_of="digest of a")

    async with depot.nothing_changes():
        with pytest.raises(KeyReused, match="other arguments"):
            await depot.create(idempotency="click 1", idempotency_of="digest of b")
    assert await depot.create(idempotency="click 1", idempotency_of="digest of a") == first


async def test_an_idempotency_key_holds_while_its_task_is_open_however_long_that_takes(depot: Depot) -> None:
    """Retention starts at the end of a task; counted from the creation it would let a slow task run twice."""
    first = await depot.create(idempotency="order 7", retention=timedelta(milliseconds=5))

    await depot.wait_until_ms((await depot.record(first)).created_ms + 10)

    assert await depot.create(idempotency="order 7") == first


async def test_an_idempotency_key_whose_task_is_gone_names_the_next_one(depot: Depot) -> None:
    claimed = await depot.start(idempotency="order 7")
    await depot.finish(claimed)
    await depot.redis.delete(*(key(claimed.id) for key in (depot.keys.record, depot.keys.events, depot.keys.result)))

    again = depot.task(idempotency="order 7")

    assert (await depot.store.create(again)).record.id == again.id
    assert await depot.create(idempotency="order 7") == again.id


@pytest.mark.parametrize(
    ("limits", "complaint"),
    [
        ({"open_limit": 2}, "You have 2 open tasks, the limit. Wait for one to end, or cancel one."),
        ({"open_limit_total": 2}, "This server has 2 open tasks, the limit. Wait for one to end, or cancel one."),
    ],
    ids=["principal", "everybody"],
)
async def test_a_creation_over_the_quota_is_refused_and_leaves_nothing(
    depot: Depot, limits: dict[str, int], complaint: str
) -> None:
    strict = depot.with_settings(**limits)
    await strict.create()
    await strict.create()

    async with strict.nothing_changes():
        with pytest.raises(QuotaExceeded) as refused:
            await strict.create(idempotency="unused")
    assert str(refused.value) == complaint


async def test_the_quota_of_one_principal_is_not_anothers(depot: Depot) -> None:
    strict = depot.with_settings(open_limit=1)
    await strict.create()

    assert (await strict.record(await strict.create(principal=STRANGER))).status is Status.PENDING


async def test_an_ended_task_frees_its_place_in_the_quota(depot: Depot) -> None:
    strict = depot.with_settings(open_limit=1, open_limit_total=1)

    await strict.finish(await strict.start())
    await strict.store.cancel(await strict.create(), OWNER)

    assert await strict.create()


async def test_zero_means_no_quota(depot: Depot) -> None:
    unlimited = depot.with_settings(open_limit=0, open_limit_total=0)

    created = {await unlimited.create() for _ in range(3)}

    assert created == set((await unlimited.found()).ids())


async def test_the_retention_is_cut_to_the_limit_of_the_settings(depot: Depot) -> None:
    short = depot.with_settings(retention_limit=60)

    assert (await short.record(await short.create(retention=timedelta(days=9)))).retention_ms == 60_000
    assert (await short.record(await short.create(retention=timedelta.max))).retention_ms == 60_000


async def test_a_retention_of_nothing_is_a_millisecond_and_the_task_can_still_end(depot: Depot) -> None:
    """Redis refuses an expiry of 0, in the middle of a script, with half of it done."""
    claimed = await depot.start(retention=timedelta(0), idempotency="key")

    assert await depot.finish(claimed) == "finished"


async def test_arguments_up_to_the_limit_are_accepted_and_one_byte_more_is_refused(depot: Depot) -> None:
    small = depot.with_settings(max_arguments=20)

    assert small.store.pack("t", {"a": "x" * 12}) == b'{"a":"' + b"x" * 12 + b'"}'
    with pytest.raises(PayloadTooLarge) as refused:
        small.store.pack("t", {"a": "x" * 13})
    assert str(refused.value) == "The arguments are 21 bytes; this server accepts 20. Send a reference instead."
    assert refused.value.facts == {"limit": 20}


def nested(depth: int) -> dict[str, object]:
    inner: dict[str, object] = {}
    for _ in range(depth):
        inner = {"in": inner}
    return inner


@pytest.mark.parametrize(
    "value",
    ["half a pair \ud800", float("nan"), float("inf"), object(), b"bytes", nested(20_000)],
    ids=["surrogate", "nan", "infinity", "object", "bytes", "too deep"],
)
async def test_arguments_that_are_not_json_are_the_callers_fault(depot: Depot, value: object) -> None:
    with pytest.raises(BadArguments, match="cannot be written as JSON"):
        depot.store.pack("t", {"value": value})


async def test_each_new_task_leaves_a_token_that_wakes_a_worker_up_to_a_bound(depot: Depot) -> None:
    """Nobody may be there to take them."""
    for _ in range(130):
        await depot.create()

    assert await depot.redis.llen(depot.keys.wake("default")) == 128  # type: ignore[misc]
    assert 0 < await depot.redis.pttl(depot.keys.wake("default")) <= 60_000


async def test_a_new_task_knows_how_many_are_queued_before_it(depot: Depot) -> None:
    views = [await depot.store.create(depot.task()) for _ in range(3)]
    elsewhere = await depot.store.create(depot.task(queue="slow"))

    assert [view.ahead for view in [*views, elsewhere]] == [0, 1, 2, 0]
