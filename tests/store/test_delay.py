"""Tasks that may not start before a time: pending, not due, and in the fair order like any other from then on."""

from datetime import timedelta
from typing import Any

from anyio import fail_after, sleep

from taskmill.engine.outcome import Failed, Fault
from taskmill.engine.record import Lane
from taskmill.engine.status import Status
from taskmill.store.claims.claims import Claimed
from taskmill.store.tasks.pauses import Pausable, Pause
from taskmill.store.tasks.tasks import OPERATOR
from tests.support.store_fixture import OWNER, STRANGER, StoreFixture

MINUTE, DAY = 60_000, 86_400_000


async def test_a_delayed_task_is_pending_without_a_position_and_says_when_it_may_start(stores: StoreFixture) -> None:
    start = await stores.now_ms() + MINUTE
    before = await stores.create()

    created = await stores.store.create(stores.task(not_before_ms=start, lane=Lane("printer", 1)))

    record = created.record
    assert (record.status, record.not_before_ms, record.next_start_ms) == (Status.PENDING, start, start)
    assert created.ahead is None
    assert await stores.store.read(record.id, OWNER) == created
    (listed,) = [view for view in (await stores.store.page(OPERATOR)).views if view.record.id == record.id]
    assert listed == created
    claims = await stores.claim(room=10)
    assert [task.id for task in claims.tasks] == [before]
    assert claims.wait_ms is not None
    assert await stores.redis.exists(stores.keys.lane("printer")) == 0, "it takes no slot before it may start"


async def test_a_worker_learns_of_a_delayed_task_and_its_wait_is_counted_from_its_start(stores: StoreFixture) -> None:
    created = await stores.now_ms()
    task_id = await stores.create(not_before_ms=created + 200)
    assert await stores.redis.exists(stores.keys.wake("default")) == 1
    await stores.wait_until_ms(created + 200)

    tasks: list[Claimed] = []
    with fail_after(20):
        while not tasks:  # the first gives it its position
            tasks = (await stores.claim()).tasks

    (claimed,) = tasks
    assert claimed.id == task_id
    assert claimed.waited_ms is not None
    started = (await stores.record(task_id)).started_ms or 0
    assert claimed.waited_ms <= started - created - 200


async def test_large_arguments_of_a_delayed_task_are_counted_for_its_delay_too(stores: StoreFixture) -> None:
    large: dict[str, Any] = {"arguments": {"text": "x" * 8000}}
    now = await stores.now_ms()
    for start, least, most in ((None, 7, 9), (now + 20 * DAY, 27, 34)):
        await stores.create(not_before_ms=start, **large)
        ends = max(int(name) for name in await stores.redis.hkeys(stores.keys.kept(OWNER)))  # type: ignore[misc]
        assert least * DAY <= ends - now < most * DAY


async def test_a_start_in_the_past_is_no_delay(stores: StoreFixture) -> None:
    created = await stores.store.create(stores.task(not_before_ms=await stores.now_ms() - 1))

    assert (created.record.not_before_ms, created.ahead) == (None, 0)
    assert (await stores.take(created.record.id)).attempt == 1


async def test_a_delayed_task_starts_at_its_time_and_not_before_for_a_stock_worker_too(stores: StoreFixture) -> None:
    start = await stores.now_ms() + 300
    task_id = await stores.create(not_before_ms=start)
    assert (await stores.claim(ids=[task_id])).tasks == []

    with fail_after(30):
        while not (await stores.claim(ids=[task_id])).tasks:
            await sleep(0.01)

    record = await stores.record(task_id)
    assert (record.status, record.next_start_ms) == (Status.RUNNING, None)
    assert (record.started_ms or 0) >= start


async def test_tasks_whose_time_has_come_wait_in_the_fair_order_and_for_their_lane(stores: StoreFixture) -> None:
    """Who delays many calls to one moment is no sooner than one who calls then. By id, as arq claims, too."""
    lane = Lane("printer", 1)
    start = await stores.now_ms() + 100
    many = [await stores.create(not_before_ms=start, lane=lane) for _ in range(3)]
    await stores.wait_until_ms(start)
    theirs = await stores.create(principal=STRANGER)

    for task_id in many:
        assert (await stores.claim(ids=[task_id])).tasks == [], "it is given its position first"
    claimed = [task.id for task in (await stores.claim(room=10)).tasks]

    assert set(claimed) == {many[0], theirs}, "the others wait for the slot of their lane"


async def test_a_delayed_task_can_be_cancelled_and_run_again_at_once_or_later(stores: StoreFixture) -> None:
    start = await stores.now_ms() + MINUTE
    task_id = await stores.create(not_before_ms=start)
    assert await stores.store.cancel(task_id, OWNER)

    at_once = await stores.store.rerun(task_id, OWNER, once="a")
    later = await stores.store.rerun(task_id, OWNER, once="b", not_before_ms=start)

    assert (at_once.record.not_before_ms, later.record.not_before_ms) == (None, start)
    assert [task.id for task in (await stores.claim(room=10)).tasks] == [at_once.record.id]


async def test_a_repair_puts_a_delayed_task_back_with_its_delay(stores: StoreFixture) -> None:
    start = await stores.now_ms() + MINUTE
    task_id = await stores.create(not_before_ms=start)
    await stores.redis.zrem(stores.keys.queue("default"), task_id)

    assert await stores.ann.reconcile(timedelta(milliseconds=1)) == 1

    assert (await stores.found()).members(stores.keys.queue("default")) == {task_id: start}


async def test_a_delayed_task_outlasts_a_pause_and_its_end(stores: StoreFixture) -> None:
    task_id = await stores.create(not_before_ms=await stores.now_ms() + MINUTE)
    pause = Pause(Pausable.TOOL, "", "count")

    await stores.store.pause(pause)
    await stores.store.resume(pause)

    assert (await stores.claim()).tasks == []
    assert (await stores.record(task_id)).status is Status.PENDING


async def test_a_delayed_task_that_starts_too_late_for_its_deadline_fails(stores: StoreFixture) -> None:
    start = await stores.now_ms() + 20
    task_id = await stores.create(not_before_ms=start, deadline=timedelta(milliseconds=30))
    await stores.wait_until_ms((await stores.record(task_id)).deadline_ms or 0)

    assert (await stores.claim()).tasks == []

    outcome = (await stores.read(task_id)).outcome
    assert isinstance(outcome, Failed)
    assert outcome.fault is Fault.DEADLINE
