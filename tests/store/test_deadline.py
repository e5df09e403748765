"""Deadlines: whatever a task waits for, it has failed when its time is up. And the list of what broke for good."""

from datetime import timedelta

import pytest

from taskmill.engine.outcome import Failed, Fault, Refused, Returned
from taskmill.engine.status import Status
from taskmill.store.formats.filters import TaskFilter
from tests.support.store_fixture import DONE, OWNER, StoreFixture, question

SOON = timedelta(milliseconds=50)
LATER = timedelta(seconds=1.5)
"""Time for a worker to do something before."""
LONG = timedelta(hours=1)


async def overdue(stores: StoreFixture, task_id: str) -> None:
    """Return once the task's deadline has passed."""
    record = await stores.record(task_id)
    assert record.deadline_ms is not None
    await stores.wait_until_ms(record.deadline_ms)


async def test_a_deadline_counts_from_the_creation_and_is_in_the_record(stores: StoreFixture) -> None:
    view = await stores.store.create(stores.task(deadline=LONG, retries=3))

    assert view.record.deadline_ms == view.record.created_ms + 3_600_000
    assert view.record.retries == 3
    assert await stores.read(view.record.id) == view


async def test_a_claim_reports_how_much_time_is_left(stores: StoreFixture) -> None:
    limited, free = await stores.start(deadline=LONG), await stores.start()

    assert limited.time_left is not None
    assert timedelta(minutes=59) < limited.time_left <= LONG
    assert free.time_left is None


async def test_the_same_batch_again_reports_it_too(stores: StoreFixture) -> None:
    await stores.create(deadline=LONG)
    await stores.claim(batch_id="1")

    (again,) = (await stores.claim(batch_id="1")).tasks

    assert again.time_left is not None


async def test_a_task_that_no_worker_ran_in_time_fails_instead_of_being_claimed(stores: StoreFixture) -> None:
    task_id = await stores.create(deadline=SOON)
    await overdue(stores, task_id)

    assert (await stores.claim()).tasks == []

    view = await stores.read(task_id)
    assert (view.record.status, view.record.reason, view.record.attempt) == (Status.FAILED, "deadline", 0)
    assert view.outcome == Failed(Fault.DEADLINE, "The task had not ended at its deadline.")
    assert await stores.moves(task_id) == ["create", "overdue"]


async def test_a_parked_task_fails_at_its_deadline_though_no_answer_comes(stores: StoreFixture) -> None:
    claimed = await stores.start(deadline=LATER)
    await stores.ann.ask(claimed.id, 1, [question(1)])
    assert await stores.run(stores.ann.park_call(claimed.id, 1)) == [b"parked"]
    await overdue(stores, claimed.id)

    assert (await stores.claim(stores.bob)).tasks == []

    assert (await stores.record(claimed.id)).status is Status.FAILED
    assert await stores.moves(claimed.id) == ["create", "claim", "ask", "park", "overdue"]


async def test_a_parked_task_is_due_again_at_its_deadline_also_after_a_repair(stores: StoreFixture) -> None:
    claimed = await stores.start(deadline=LONG)
    await stores.ann.ask(claimed.id, 1, [question(1)])
    await stores.run(stores.ann.park_call(claimed.id, 1))
    queue = stores.keys.queue("default")
    deadline = (await stores.record(claimed.id)).deadline_ms
    assert await stores.redis.zscore(queue, claimed.id) == deadline

    await stores.redis.zrem(queue, claimed.id)
    await stores.ann.reconcile(timedelta(hours=1))

    assert await stores.redis.zscore(queue, claimed.id) == deadline


async def test_a_dead_workers_task_is_not_run_again_beyond_its_deadline(stores: StoreFixture) -> None:
    """And the worker can change nothing when it comes back."""
    claimed = await stores.start(deadline=LATER)
    await stores.lapse(claimed.id)
    await overdue(stores, claimed.id)

    assert (await stores.claim(stores.bob)).tasks == []

    assert (await stores.record(claimed.id)).reason == "deadline"
    assert await stores.finish(claimed) == "lost"


async def dead_letters(stores: StoreFixture) -> list[str]:
    return [view.record.id for view in (await stores.store.dead_letters()).views]


async def test_what_broke_for_good_is_a_dead_letter_newest_first(stores: StoreFixture) -> None:
    timed_out, crashed, late = await stores.start(), await stores.start(), await stores.create(deadline=SOON)
    await stores.finish(timed_out, Failed(Fault.TIMEOUT, "too long"))
    await stores.wait_until_ms(await stores.now_ms())  # within one millisecond there is no newer
    blamed = Returned({"content": []}, is_error=True)
    await stores.run(stores.ann.finish_call(crashed.id, crashed.fence, blamed, reason="crashed"))
    await stores.wait_until_ms(await stores.now_ms())
    await overdue(stores, late)
    await stores.claim()

    letters = (await stores.store.dead_letters()).views

    assert [(view.record.id, view.record.reason) for view in letters] == [
        (late, "deadline"),
        (crashed.id, "crashed"),
        (timed_out.id, "timeout"),
    ]


async def test_an_answer_of_the_tools_own_is_no_dead_letter_and_neither_is_a_cancel(stores: StoreFixture) -> None:
    succeeded, answered, refused, cancelled = [await stores.start() for _ in range(4)]
    await stores.finish(succeeded, DONE)
    await stores.finish(answered, Returned({"content": []}, is_error=True))
    await stores.finish(refused, Refused(-32050, "no"))
    await stores.store.cancel(cancelled.id, OWNER)

    assert await dead_letters(stores) == []


async def test_a_dead_letter_that_is_run_again_leaves_the_list_and_keeps_its_policy(stores: StoreFixture) -> None:
    broken = await stores.start(retries=2, deadline=LONG)
    await stores.finish(broken, Failed(Fault.TIMEOUT, "too long"))

    again = await stores.store.rerun(broken.id, OWNER)

    assert await dead_letters(stores) == []
    assert again.record.retries == 2
    assert again.record.deadline_ms == again.record.created_ms + 3_600_000


async def test_dead_letters_come_in_pages_and_by_tool(stores: StoreFixture) -> None:
    ids = []
    for tool in ("count", "other", "count"):
        claimed = await stores.start(tool=tool)
        await stores.finish(claimed, Failed(Fault.TIMEOUT, "too long"))
        ids.append(claimed.id)

    first = await stores.store.dead_letters(limit=2)
    rest = await stores.store.dead_letters(limit=2, after=first.next)
    by_tool = await stores.store.dead_letters(where=TaskFilter(tool="other"))

    assert {view.record.id for view in (*first.views, *rest.views)} == set(ids)
    assert len(first.views) == 2
    assert [view.record.id for view in by_tool.views] == [ids[1]]


@pytest.mark.parametrize("look", ["page", "forget"])
async def test_a_dead_letter_is_gone_when_its_task_is(stores: StoreFixture, look: str) -> None:
    broken = await stores.start(retention=timedelta(milliseconds=20))
    await stores.finish(broken, Failed(Fault.TIMEOUT, "too long"))
    await stores.wait_until_ms(await stores.now_ms() + 40)

    if look == "page":
        assert await dead_letters(stores) == []
    else:
        await stores.create()

    assert await stores.redis.zcard(stores.keys.dead) == 0
