"""Deadlines: whatever a task waits for, it has failed when its time is up. And the list of what broke for good."""

from datetime import timedelta

import pytest

from taskmill.engine.outcome import Broke, Fault, Refused, Returned
from taskmill.engine.status import Status
from tests.support.store_fixture import DONE, OWNER, Depot, question

SOON = timedelta(milliseconds=50)
LONG = timedelta(hours=1)


async def overdue(depot: Depot, task_id: str) -> None:
    """Return once the task's deadline has passed."""
    record = await depot.record(task_id)
    assert record.deadline_ms is not None
    await depot.wait_until_ms(record.deadline_ms)


async def test_a_deadline_counts_from_the_creation_and_is_in_the_record(depot: Depot) -> None:
    view = await depot.store.create(depot.task(deadline=LONG, retries=3))

    assert view.record.deadline_ms == view.record.created_ms + 3_600_000
    assert view.record.retries == 3
    assert await depot.look(view.record.id) == view


async def test_a_claim_says_how_much_time_is_left(depot: Depot) -> None:
    limited, free = await depot.start(deadline=LONG), await depot.start()

    assert limited.time_left is not None
    assert timedelta(minutes=59) < limited.time_left <= LONG
    assert free.time_left is None


async def test_the_same_turn_again_says_it_too(depot: Depot) -> None:
    await depot.create(deadline=LONG)
    await depot.claim(turn="1")

    (again,) = (await depot.claim(turn="1")).tasks

    assert again.time_left is not None


async def test_a_task_that_nobody_ran_in_time_fails_instead_of_being_claimed(depot: Depot) -> None:
    task_id = await depot.create(deadline=SOON)
    await overdue(depot, task_id)

    assert (await depot.claim()).tasks == []

    view = await depot.look(task_id)
    assert (view.record.status, view.record.reason, view.record.attempt) == (Status.FAILED, "deadline", 0)
    assert view.outcome == Broke(Fault.DEADLINE, "The task had not ended at its deadline.")
    assert await depot.moves(task_id) == ["create", "overdue"]


async def test_a_parked_task_fails_at_its_deadline_though_nobody_answers(depot: Depot) -> None:
    claimed = await depot.start(deadline=SOON)
    await depot.ann.ask(claimed.id, 1, [question(1)])
    assert await depot.say(depot.ann.park_call(claimed.id, 1)) == [b"parked"]
    await overdue(depot, claimed.id)

    assert (await depot.claim(depot.bob)).tasks == []

    assert (await depot.record(claimed.id)).status is Status.FAILED
    assert await depot.moves(claimed.id) == ["create", "claim", "ask", "park", "overdue"]


async def test_a_parked_task_is_due_again_at_its_deadline_also_after_a_repair(depot: Depot) -> None:
    claimed = await depot.start(deadline=LONG)
    await depot.ann.ask(claimed.id, 1, [question(1)])
    await depot.say(depot.ann.park_call(claimed.id, 1))
    queue = depot.keys.queue("default")
    deadline = (await depot.record(claimed.id)).deadline_ms
    assert await depot.redis.zscore(queue, claimed.id) == deadline

    await depot.redis.zrem(queue, claimed.id)
    await depot.ann.reconcile(timedelta(hours=1))

    assert await depot.redis.zscore(queue, claimed.id) == deadline


async def test_a_dead_workers_task_is_not_run_again_beyond_its_deadline(depot: Depot) -> None:
    """And what the worker says when it comes back counts no more."""
    claimed = await depot.start(deadline=SOON)
    await depot.lapse(claimed.id)
    await overdue(depot, claimed.id)

    assert (await depot.claim(depot.bob)).tasks == []

    assert (await depot.record(claimed.id)).reason == "deadline"
    assert await depot.finish(claimed) == "lost"


async def dead_letters(depot: Depot) -> list[str]:
    return [view.record.id for view in (await depot.store.dead_letters()).views]


async def test_what_broke_for_good_is_a_dead_letter_newest_first(depot: Depot) -> None:
    timed_out, crashed, late = await depot.start(), await depot.start(), await depot.create(deadline=SOON)
    await depot.finish(timed_out, Broke(Fault.TIMEOUT, "too long"))
    await depot.wait_until_ms(await depot.now_ms())  # within one millisecond there is no newer
    blamed = Returned({"content": []}, is_error=True)
    await depot.say(depot.ann.finish_call(crashed.id, crashed.fence, blamed, reason="crashed"))
    await depot.wait_until_ms(await depot.now_ms())
    await overdue(depot, late)
    await depot.claim()

    letters = (await depot.store.dead_letters()).views

    assert [(view.record.id, view.record.reason) for view in letters] == [
        (late, "deadline"),
        (crashed.id, "crashed"),
        (timed_out.id, "timeout"),
    ]


async def test_an_answer_of_the_tools_own_is_no_dead_letter_and_neither_is_a_cancel(depot: Depot) -> None:
    succeeded, answered, refused, cancelled = [await depot.start() for _ in range(4)]
    await depot.finish(succeeded, DONE)
    await depot.finish(answered, Returned({"content": []}, is_error=True))
    await depot.finish(refused, Refused(-32050, "no"))
    await depot.store.cancel(cancelled.id, OWNER)

    assert await dead_letters(depot) == []


async def test_a_dead_letter_that_is_run_again_leaves_the_list_and_keeps_its_policy(depot: Depot) -> None:
    broken = await depot.start(retries=2, deadline=LONG)
    await depot.finish(broken, Broke(Fault.TIMEOUT, "too long"))

    again = await depot.store.rerun(broken.id, OWNER)

    assert await dead_letters(depot) == []
    assert again.record.retries == 2
    assert again.record.deadline_ms == again.record.created_ms + 3_600_000


async def test_dead_letters_come_in_pages_and_by_tool(depot: Depot) -> None:
    ids = []
    for tool in ("count", "other", "count"):
        claimed = await depot.start(tool=tool)
        await depot.finish(claimed, Broke(Fault.TIMEOUT, "too long"))
        ids.append(claimed.id)

    first = await depot.store.dead_letters(limit=2)
    rest = await depot.store.dead_letters(limit=2, after=first.next)
    by_tool = await depot.store.dead_letters(tool="other")

    assert {view.record.id for view in (*first.views, *rest.views)} == set(ids)
    assert len(first.views) == 2
    assert [view.record.id for view in by_tool.views] == [ids[1]]


@pytest.mark.parametrize("look", ["page", "forget"])
async def test_a_dead_letter_is_gone_when_its_task_is(depot: Depot, look: str) -> None:
    broken = await depot.start(retention=timedelta(milliseconds=20))
    await depot.finish(broken, Broke(Fault.TIMEOUT, "too long"))
    ended = (await depot.record(broken.id)).ended_ms
    assert ended is not None
    await depot.wait_until_ms(ended + 40)

    if look == "page":
        assert await dead_letters(depot) == []
    else:
        await depot.create()

    assert await depot.redis.zcard(depot.keys.dead) == 0
