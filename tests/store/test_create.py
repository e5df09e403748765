"""Creation: durable, repeatable, bounded."""

from datetime import timedelta

import pytest
from arq.jobs import deserialize_job_raw

from taskmill.engine.errors import BadArguments, IdempotencyKeyReused, PayloadTooLarge, QuotaExceeded
from taskmill.engine.events import Event
from taskmill.engine.outcome import Failed, Fault, Returned
from taskmill.engine.record import TaskRecord, TaskView
from taskmill.engine.status import Move, Status
from taskmill.store.connection.client import connect
from taskmill.store.tasks.arq_job import job_from_json
from taskmill.store.tasks.redis_store import RedisTaskStore
from tests.support.store_fixture import OWNER, STRANGER, StoreFixture

WHOSE = {"tool": "count", "principal": OWNER}


async def test_a_created_task_is_pending_and_reads_as_it_was_returned(stores: StoreFixture) -> None:
    task = stores.task(queue="slow", retention=timedelta(minutes=5), poll_interval=timedelta(milliseconds=250))

    created = await stores.store.create(task)

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
    assert await stores.store.read(task.id, OWNER) == created


async def test_a_created_task_can_be_read_by_any_other_replica(stores: StoreFixture) -> None:
    """Durable creation."""
    created = await stores.store.create(stores.task())

    async with connect(stores.settings) as other:
        assert await RedisTaskStore(other, stores.settings).read(created.record.id, OWNER) == created


async def test_creation_is_the_first_event_and_describes_the_task(stores: StoreFixture) -> None:
    task_id = await stores.create()

    record = await stores.record(task_id)
    facts = {
        "id": task_id,
        "tool": "count",
        "queue": "default",
        "principal": OWNER,
        "retention_ms": 86_400_000,
        "poll_ms": 1000,
    }
    assert await stores.store.history(task_id) == [Event(1, Move.CREATE, record.created_ms, facts)]
    assert await stores.store.history(task_id, after=1) == []


async def test_a_created_task_has_these_keys_and_no_others(stores: StoreFixture) -> None:
    task = stores.task(idempotency="key", listed_for=OWNER)
    await stores.store.create(task)

    found = await stores.found()

    keys = stores.keys
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
            keys.ordering("default"),
            keys.wake("default"),
            f"{keys.root}once:{OWNER}:key",
        ]
    )
    assert found.values[keys.args(task.id)] == task.payload
    assert found.record(task.id) == await stores.record(task.id)


async def test_a_created_task_is_a_job_that_arq_can_read(stores: StoreFixture) -> None:
    task_id = await stores.create()

    stored = await stores.redis.get(stores.keys.job(task_id))

    job = deserialize_job_raw(stored, deserializer=job_from_json)
    assert job == ("taskmill", [task_id], {}, None, job[4])


async def test_creating_the_same_task_twice_creates_one(stores: StoreFixture) -> None:
    """The reply was lost and the call came again."""
    task = stores.task()
    created = await stores.store.create(task)

    async with stores.nothing_changes():
        assert await stores.store.create(task) == created


async def test_a_repeated_creation_does_not_count_against_the_quota(stores: StoreFixture) -> None:
    strict = stores.with_settings(open_limit=1, open_limit_total=1)
    task = strict.task()
    created = await strict.store.create(task)

    assert await strict.store.create(task) == created


async def test_a_repeated_creation_finds_the_task_as_it_is_by_now(stores: StoreFixture) -> None:
    task = stores.task()
    await stores.store.create(task)
    claimed = await stores.take(task.id)
    assert (await stores.store.create(task)).record.status is Status.RUNNING

    await stores.finish(claimed)

    assert await stores.store.create(task) == await stores.read(task.id)


async def test_an_idempotency_key_is_answered_with_the_first_task_of_the_same_owner(stores: StoreFixture) -> None:
    first = await stores.store.create(stores.task(idempotency="order 7"))

    async with stores.nothing_changes():
        assert await stores.store.create(stores.task(idempotency="order 7")) == first
    other = await stores.store.create(stores.task(idempotency="order 7", principal=STRANGER))
    another = await stores.store.create(stores.task(idempotency="order 8"))

    assert len({first.record.id, other.record.id, another.record.id}) == 3


async def test_an_idempotency_key_still_names_the_task_after_its_end(stores: StoreFixture) -> None:
    claimed = await stores.start(idempotency="order 7")
    await stores.finish(claimed)

    assert await stores.store.create(stores.task(idempotency="order 7")) == await stores.read(claimed.id)


@pytest.mark.parametrize("ending", ["failed", "cancelled", "tool_error", "poisoned"])
async def test_an_idempotency_key_is_free_again_when_its_task_did_not_succeed(
    stores: StoreFixture, ending: str
) -> None:
    claimed = await stores.start(idempotency="order 7")
    if ending == "failed":
        await stores.finish(claimed, Failed(Fault.TIMEOUT, "too long"))
    elif ending == "cancelled":
        await stores.store.cancel(claimed.id, OWNER)
    elif ending == "tool_error":
        await stores.finish(claimed, Returned({}, is_error=True))
    else:
        for _ in range(stores.settings.crash_limit + 1):
            await stores.lapse(claimed.id)
            await stores.claim(ids=[claimed.id])

    again = await stores.create(idempotency="order 7")

    assert (await stores.record(claimed.id)).is_terminal
    assert again != claimed.id
    assert await stores.create(idempotency="order 7") == again


async def test_a_creation_that_is_sent_again_names_its_own_task_whatever_has_the_idempotency_key_by_then(
    stores: StoreFixture,
) -> None:
    first = stores.task(idempotency="order 7", idempotency_of="digest")
    await stores.store.create(first)
    await stores.store.cancel(first.id, OWNER)
    for digest in ("digest", "digest of another call"):
        later = await stores.create(idempotency="order 7", idempotency_of=digest)
        assert later != first.id
        assert (await stores.store.create(first)).record.id == first.id
        assert await stores.create(idempotency="order 7", idempotency_of=digest) == later
        await stores.store.cancel(later, OWNER)


async def test_an_idempotency_key_that_stands_for_another_call_is_refused(stores: StoreFixture) -> None:
    first = await stores.create(idempotency="click 1", idempotency_of="digest of a")

    async with stores.nothing_changes():
        with pytest.raises(IdempotencyKeyReused, match="other arguments"):
            await stores.create(idempotency="click 1", idempotency_of="digest of b")
    assert await stores.create(idempotency="click 1", idempotency_of="digest of a") == first


async def test_an_idempotency_key_holds_while_its_task_is_open_however_long_that_takes(stores: StoreFixture) -> None:
    """Retention starts at the end of a task; counted from the creation it would let a slow task run twice."""
    first = await stores.create(idempotency="order 7", retention=timedelta(milliseconds=5))

    await stores.wait_until_ms((await stores.record(first)).created_ms + 10)

    assert await stores.create(idempotency="order 7") == first


async def test_an_idempotency_key_whose_task_is_gone_names_the_next_one(stores: StoreFixture) -> None:
    claimed = await stores.start(idempotency="order 7")
    await stores.finish(claimed)
    await stores.redis.delete(
        *(key(claimed.id) for key in (stores.keys.record, stores.keys.events, stores.keys.result))
    )

    again = stores.task(idempotency="order 7")

    assert (await stores.store.create(again)).record.id == again.id
    assert await stores.create(idempotency="order 7") == again.id


@pytest.mark.parametrize(
    ("limits", "complaint"),
    [
        ({"open_limit": 2}, "You have 2 open tasks, the limit. Wait for one to end, or cancel one."),
        ({"open_limit_total": 2}, "This server has 2 open tasks, the limit. Wait for one to end, or cancel one."),
    ],
    ids=["principal", "everybody"],
)
async def test_a_creation_over_the_quota_is_refused_and_leaves_nothing(
    stores: StoreFixture, limits: dict[str, int], complaint: str
) -> None:
    strict = stores.with_settings(**limits)
    await strict.create()
    await strict.create()

    async with strict.nothing_changes():
        with pytest.raises(QuotaExceeded) as refused:
            await strict.create(idempotency="unused")
    assert str(refused.value) == complaint


async def test_the_quota_of_one_principal_is_not_anothers(stores: StoreFixture) -> None:
    strict = stores.with_settings(open_limit=1)
    await strict.create()

    assert (await strict.record(await strict.create(principal=STRANGER))).status is Status.PENDING


async def test_an_ended_task_frees_its_share_of_the_quota(stores: StoreFixture) -> None:
    strict = stores.with_settings(open_limit=1, open_limit_total=1)

    await strict.finish(await strict.start())
    await strict.store.cancel(await strict.create(), OWNER)

    assert await strict.create()


async def test_zero_means_no_quota(stores: StoreFixture) -> None:
    unlimited = stores.with_settings(open_limit=0, open_limit_total=0)

    created = {await unlimited.create() for _ in range(3)}

    assert created == set((await unlimited.found()).ids())


async def test_the_retention_is_cut_to_the_limit_of_the_settings(stores: StoreFixture) -> None:
    short = stores.with_settings(retention_limit=60)

    assert (await short.record(await short.create(retention=timedelta(days=9)))).retention_ms == 60_000
    assert (await short.record(await short.create(retention=timedelta.max))).retention_ms == 60_000


async def test_a_retention_of_nothing_is_a_millisecond_and_the_task_can_still_end(stores: StoreFixture) -> None:
    """Redis refuses an expiry of 0, in the middle of a script, with half of it done."""
    claimed = await stores.start(retention=timedelta(0), idempotency="key")

    assert await stores.finish(claimed) == "finished"


async def test_arguments_up_to_the_limit_are_accepted_and_one_byte_more_is_refused(stores: StoreFixture) -> None:
    small = stores.with_settings(max_arguments=20)

    assert small.store.pack("t", {"a": "x" * 12}, **WHOSE) == b'{"a":"' + b"x" * 12 + b'"}'
    with pytest.raises(PayloadTooLarge) as refused:
        small.store.pack("t", {"a": "x" * 13}, **WHOSE)
    assert str(refused.value) == "The arguments are 21 bytes; this server accepts 20. Send a reference instead."
    assert refused.value.facts == {"limit": 20}


def nested(depth: int) -> dict[str, object]:
    inner: dict[str, object] = {}
    for _ in range(depth):
        inner = {"in": inner}
    return inner


@pytest.mark.parametrize(
    "value",
    ["half a pair \ud800", float("nan"), float("inf"), object(), b"\xff", nested(20_000)],
    ids=["surrogate", "nan", "infinity", "object", "bytes", "too deep"],
)
async def test_arguments_that_are_not_json_are_the_callers_fault(stores: StoreFixture, value: object) -> None:
    with pytest.raises(BadArguments, match="cannot be written as JSON"):
        stores.store.pack("t", {"value": value}, **WHOSE)


async def test_each_new_task_leaves_a_token_that_wakes_a_worker_up_to_a_bound(stores: StoreFixture) -> None:
    """There may be no worker to take them."""
    for _ in range(130):
        await stores.create()

    assert await stores.redis.llen(stores.keys.wake("default")) == 128  # type: ignore[misc]
    assert 0 < await stores.redis.pttl(stores.keys.wake("default")) <= 60_000


async def test_a_new_task_knows_how_many_are_queued_before_it(stores: StoreFixture) -> None:
    views = [await stores.store.create(stores.task()) for _ in range(3)]
    elsewhere = await stores.store.create(stores.task(queue="slow"))

    assert [view.ahead for view in [*views, elsewhere]] == [0, 1, 2, 0]
