"""Creations that come at once are one script call, and each of them is as if it had come alone."""

import asyncio
from contextlib import suppress

import pytest

from taskmill.engine.errors import QuotaExceeded
from taskmill.engine.record import Lane, NewTask, TaskView
from taskmill.store.formats.filters import ANY_TASK
from taskmill.store.tasks.tasks import OPERATOR
from tests.support.invariants import broken_promises
from tests.support.store_fixture import OWNER, STRANGER, StoreFixture


async def script_calls(stores: StoreFixture) -> int:
    stats = await stores.redis.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("eval", "evalsha"))


async def create_at_once(stores: StoreFixture, *tasks: NewTask) -> list[TaskView | BaseException]:
    """What came of creating them in one iteration of the event loop."""
    await stores.store.check_room()  # the first caller would have to wait for it
    return await asyncio.gather(*map(stores.store.create, tasks), return_exceptions=True)


async def test_a_creation_that_comes_before_the_one_before_is_sent_goes_with_it(stores: StoreFixture) -> None:
    await stores.create()
    before = await script_calls(stores)

    first = asyncio.create_task(stores.store.create(stores.task()))
    await asyncio.sleep(0)  # the event loop goes on: the first has made its batch
    await asyncio.gather(first, stores.store.create(stores.task()))

    assert await script_calls(stores) - before == 1


async def test_creations_that_come_at_once_are_one_script_call(stores: StoreFixture) -> None:
    await stores.create()
    tasks = [stores.task() for _ in range(10)]
    before = await script_calls(stores)

    views = [view for view in await create_at_once(stores, *tasks) if isinstance(view, TaskView)]

    assert await script_calls(stores) - before == 1
    assert [view.record.id for view in views] == [task.id for task in tasks]
    assert [view.ahead for view in views] == list(range(1, 11))
    assert views == [await stores.store.read(task.id, OWNER) for task in tasks]
    assert broken_promises(await stores.found()) == []


async def test_more_than_one_call_takes_are_several(stores: StoreFixture) -> None:
    tasks = [stores.task() for _ in range(70)]
    before = await script_calls(stores)

    views = [view for view in await create_at_once(stores, *tasks) if isinstance(view, TaskView)]

    assert await script_calls(stores) - before == 3
    assert [view.ahead for view in views] == list(range(70))


async def test_large_arguments_are_not_sent_together(stores: StoreFixture) -> None:
    generous = stores.with_settings(max_arguments=1_000_000)
    tasks = [generous.task(arguments={"text": "x" * 600_000}) for _ in range(3)]
    before = await script_calls(stores)

    await create_at_once(generous, *tasks)

    assert await script_calls(stores) - before == 3


async def test_tasks_of_one_call_keep_their_order_in_lists_and_in_the_queue(stores: StoreFixture) -> None:
    tasks = [stores.task(listed_for=OWNER) for _ in range(20)]
    await create_at_once(stores, *tasks)

    ids = [task.id for task in tasks]
    listed = await stores.store.slice(OWNER, ("", ""), limit=50, where=ANY_TASK)
    assert [view.record.id for view in listed.views] == ids[::-1]
    assert [task.id for task in (await stores.claim(room=50)).tasks] == ids


async def test_callers_of_one_call_share_the_queue_fairly(stores: StoreFixture) -> None:
    anns, bobs = [stores.task() for _ in range(4)], [stores.task(principal=STRANGER) for _ in range(2)]

    await create_at_once(stores, *anns, *bobs)

    order = [task.id for task in (await stores.claim(room=50)).tasks]
    assert order == [task.id for task in (anns[0], bobs[0], anns[1], bobs[1], anns[2], anns[3])]


@pytest.mark.parametrize("at_once", [True, False])
async def test_tasks_of_several_queues_and_priorities_join_each_its_own(stores: StoreFixture, at_once: bool) -> None:
    mixed = [stores.task(queue=queue, priority=priority) for priority in (0, 1) * 3 for queue in ("fast", "slow")]

    if at_once:
        await create_at_once(stores, *mixed)
    else:
        for task in mixed:
            await stores.store.create(task)

    for queue in ("fast", "slow"):
        _, claims = await stores.ann.run_batch([], stores.ann.claim_call(queue, 50))
        assert claims is not None
        mine = [task.id for task in mixed if task.queue == queue]
        assert [mine.index(task.id) for task in claims.tasks] == [1, 3, 5, 0, 2, 4]


async def test_a_quota_counts_the_tasks_of_the_same_call(stores: StoreFixture) -> None:
    strict = stores.with_settings(open_limit=3)
    tasks = [strict.task() for _ in range(5)]

    made = await create_at_once(strict, *tasks)

    assert [type(each) for each in made] == [TaskView] * 3 + [QuotaExceeded] * 2
    assert broken_promises(await stores.found()) == []


async def test_the_same_key_twice_in_one_call_makes_one_task(stores: StoreFixture) -> None:
    first, second = (stores.task(idempotency="key") for _ in range(2))

    views = await create_at_once(stores, first, second)

    assert [view.record.id for view in views if isinstance(view, TaskView)] == [first.id] * 2


async def test_a_lane_takes_no_more_of_one_call_than_it_has_slots(stores: StoreFixture) -> None:
    tasks = [stores.task(lane=Lane("ann", 2)) for _ in range(4)]

    views = [view for view in await create_at_once(stores, *tasks) if isinstance(view, TaskView)]

    assert [view.ahead for view in views] == [0, 1, 2, 3]
    assert [task.id for task in (await stores.claim(room=50)).tasks] == [task.id for task in tasks[:2]]
    assert broken_promises(await stores.found()) == []


async def test_delayed_tasks_of_one_call_all_have_their_own_start(stores: StoreFixture) -> None:
    now = await stores.now_ms()
    tasks = [stores.task(not_before_ms=now + 60_000 + number) for number in range(3)]

    views = [view for view in await create_at_once(stores, *tasks) if isinstance(view, TaskView)]

    assert [view.ahead for view in views] == [None] * 3
    due = (await stores.found()).members(stores.keys.queue("default"))
    assert due == {task.id: now + 60_000 + number for number, task in enumerate(tasks)}


async def test_a_task_that_cannot_be_created_does_not_keep_the_others_from_it(stores: StoreFixture) -> None:
    """Another program wrote something else where its history would be."""
    good, bad = stores.task(), stores.task()
    await stores.redis.set(stores.keys.events(bad.id), "no list")

    made = await create_at_once(stores, bad, good)

    assert [isinstance(each, Exception) for each in made] == [True, False]
    assert (await stores.store.read(good.id, OPERATOR)).ahead == 0


async def test_a_caller_that_gives_up_takes_no_one_with_it(stores: StoreFixture) -> None:
    tasks = [stores.task() for _ in range(3)]
    calls = [asyncio.create_task(stores.store.create(task)) for task in tasks]
    await asyncio.sleep(0)

    calls[0].cancel()

    with suppress(asyncio.CancelledError):
        await calls[0]
    assert [(await call).record.id for call in calls[1:]] == [task.id for task in tasks[1:]]


@pytest.mark.parametrize("count", [2, 40])
async def test_wake_up_tokens_are_as_many_as_tasks(stores: StoreFixture, count: int) -> None:
    await asyncio.gather(*(stores.create() for _ in range(count)))

    assert await stores.redis.llen(stores.keys.wake("default")) == count  # type: ignore[misc]
    assert await stores.redis.pttl(stores.keys.wake("default")) > 0
