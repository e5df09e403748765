"""Parked tasks: they wait for answers, no worker has them, and the last answer puts them back in their queue."""

from dataclasses import replace
from datetime import timedelta

from taskmill.engine.events import Event
from taskmill.engine.record import Progress
from taskmill.engine.status import Move, Status
from taskmill.store.claims.claims import Claimed
from tests.support.invariants import is_parked
from tests.support.store_fixture import DONE, OWNER, StoreFixture, question

YES = {"yes": True}


async def parked(stores: StoreFixture, count: int = 1) -> Claimed:
    """A task that was parked with so many open questions."""
    claimed = await stores.start()
    await stores.ann.ask(claimed.id, claimed.fence, [question(n + 1) for n in range(count)])
    assert await stores.run(stores.ann.park_call(claimed.id, claimed.fence)) == [b"parked"]
    return claimed


async def test_a_parked_task_still_shows_its_questions_and_has_no_worker(stores: StoreFixture) -> None:
    claimed = await stores.start()
    await stores.ann.ask(claimed.id, 1, [question(1, "sure?")])
    before = await stores.record(claimed.id)

    assert await stores.run(stores.ann.park_call(claimed.id, 1)) == [b"parked"]

    view = await stores.read(claimed.id)
    now = view.record.updated_ms
    assert view.record == replace(before, worker=None, fence=2, seq=4, updated_ms=now)
    assert is_parked(view.record)
    assert view.questions == {"input-1": {"message": "sure?"}}
    assert await stores.store.history(claimed.id, after=3) == [Event(4, Move.PARK, now, {"fence": 2})]


async def test_no_worker_can_claim_a_parked_task(stores: StoreFixture) -> None:
    """Neither from the head of the queue nor when something else made it due."""
    claimed = await parked(stores)

    assert (await stores.claim(stores.bob, 9)).tasks == []
    await stores.lapse(claimed.id)
    for ids in ((), (claimed.id,)):
        claims = await stores.claim(stores.bob, 9, ids=ids)
        assert claims.tasks == []
        assert claims.wait_ms is not None
        assert claims.wait_ms > timedelta(days=365) / timedelta(milliseconds=1)
    assert is_parked(await stores.record(claimed.id))


async def test_the_last_answer_puts_a_parked_task_back_in_its_queue_at_once(stores: StoreFixture) -> None:
    claimed = await parked(stores, 2)
    assert await stores.store.answer(claimed.id, OWNER, {"input-2": YES}) == 1
    assert is_parked(await stores.record(claimed.id))

    assert await stores.store.answer(claimed.id, OWNER, {"input-1": YES}) == 1

    assert (await stores.record(claimed.id)).status is Status.PENDING
    again = await stores.take(claimed.id, stores.bob)
    assert (again.attempt, again.crashes, again.failures) == (2, 0, 0)
    assert await stores.bob.ask(claimed.id, again.fence, [question(1), question(2)]) == [YES, YES]
    assert await stores.moves(claimed.id) == ["create", "claim", "ask", "park", "answer", "wake", "claim"]


async def test_an_answer_to_a_parked_task_wakes_an_idle_worker(stores: StoreFixture) -> None:
    claimed = await parked(stores)
    await stores.redis.delete(stores.keys.wake("default"))

    await stores.store.answer(claimed.id, OWNER, {"input-1": YES})

    assert await stores.redis.llen(stores.keys.wake("default")) == 1  # type: ignore[misc]


async def test_the_worker_that_parked_a_task_has_no_word_in_it_any_more(stores: StoreFixture) -> None:
    """A renewal on its way above all: it would give the task a lease that no worker renews, and so a crash."""
    claimed = await parked(stores)

    async with stores.nothing_changes():
        assert await stores.renew((claimed.id, claimed.fence)) == [claimed.id]
        assert await stores.report((claimed.id, claimed.fence, Progress(1))) == [claimed.id]
        assert await stores.finish(claimed, DONE) == "lost"
        assert await stores.release(claimed) == "lost"
        assert await stores.run(stores.ann.park_call(claimed.id, claimed.fence)) == [b"lost"]


async def test_answers_that_come_before_the_park_put_the_task_back_in_its_queue(stores: StoreFixture) -> None:
    claimed = await stores.start()
    await stores.ann.ask(claimed.id, 1, [question(1)])
    await stores.store.answer(claimed.id, OWNER, {"input-1": YES})

    assert await stores.run(stores.ann.park_call(claimed.id, 1)) == [b"released"]

    record = await stores.record(claimed.id)
    assert (record.status, record.reason, record.failures) == (Status.PENDING, "answered", 0)
    assert (await stores.take(claimed.id)).crashes == 0


async def test_a_parked_task_can_be_cancelled(stores: StoreFixture) -> None:
    claimed = await parked(stores)

    assert await stores.store.cancel(claimed.id, OWNER)

    assert (await stores.record(claimed.id)).status is Status.CANCELLED
    assert await stores.store.answer(claimed.id, OWNER, {"input-1": YES}) == 0


async def test_a_parked_task_taken_out_of_its_queue_is_put_back_parked(stores: StoreFixture) -> None:
    claimed = await parked(stores)
    await stores.redis.zrem(stores.keys.queue("default"), claimed.id)

    assert await stores.ann.reconcile(timedelta(hours=1)) == 1

    score = await stores.redis.zscore(stores.keys.queue("default"), claimed.id)
    assert score is not None
    assert score > await stores.now_ms() + timedelta(days=365) / timedelta(milliseconds=1)


async def test_parked_tasks_do_not_stand_in_anybodys_way(stores: StoreFixture) -> None:
    for _ in range(3):
        await parked(stores)

    view = await stores.store.create(stores.task())

    assert view.ahead == 0
