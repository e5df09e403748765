"""Parked tasks: they wait for answers, nobody holds them, and the last answer puts them back in their queue."""

from dataclasses import replace
from datetime import timedelta

from taskmill.engine.events import Event
from taskmill.engine.record import Progress
from taskmill.engine.status import Move, Status
from taskmill.store.claims.claims import Claimed
from tests.support.store_fixture import DONE, OWNER, Depot, question

YES = {"yes": True}


async def parked(depot: Depot, count: int = 1) -> Claimed:
    """A task that was parked with so many open questions."""
    claimed = await depot.start()
    await depot.ann.ask(claimed.id, claimed.fence, [question(n + 1) for n in range(count)])
    assert await depot.say(depot.ann.park_call(claimed.id, claimed.fence)) == [b"parked"]
    return claimed


async def test_a_parked_task_still_shows_its_questions_and_has_no_worker(depot: Depot) -> None:
    claimed = await depot.start()
    await depot.ann.ask(claimed.id, 1, [question(1, "sure?")])
    before = await depot.record(claimed.id)

    assert await depot.say(depot.ann.park_call(claimed.id, 1)) == [b"parked"]

    view = await depot.look(claimed.id)
    now = view.record.updated_ms
    assert view.record == replace(before, worker=None, fence=2, seq=4, updated_ms=now)
    assert view.record.is_parked
    assert view.questions == {"input-1": {"message": "sure?"}}
    assert await depot.store.history(claimed.id, after=3) == [Event(4, Move.PARK, now, {"fence": 2})]


async def test_nobody_can_claim_a_parked_task(depot: Depot) -> None:
    """Neither from the head of the queue nor when something else made it due."""
    claimed = await parked(depot)

    assert (await depot.claim(depot.bob, 9)).tasks == []
    await depot.lapse(claimed.id)
    for ids in ((), (claimed.id,)):
        claims = await depot.claim(depot.bob, 9, ids=ids)
        assert claims.tasks == []
        assert claims.wait_ms is not None
        assert claims.wait_ms > timedelta(days=365) / timedelta(milliseconds=1)
    assert (await depot.record(claimed.id)).is_parked


async def test_the_last_answer_puts_a_parked_task_back_in_its_queue_at_once(depot: Depot) -> None:
    claimed = await parked(depot, 2)
    assert await depot.store.answer(claimed.id, OWNER, {"input-2": YES}) == 1
    assert (await depot.record(claimed.id)).is_parked

    assert await depot.store.answer(claimed.id, OWNER, {"input-1": YES}) == 1

    assert (await depot.record(claimed.id)).status is Status.PENDING
    again = await depot.take(claimed.id, depot.bob)
    assert (again.attempt, again.crashes, again.failures) == (2, 0, 0)
    assert await depot.bob.ask(claimed.id, again.fence, [question(1), question(2)]) == [YES, YES]
    assert await depot.moves(claimed.id) == ["create", "claim", "ask", "park", "answer", "wake", "claim"]


async def test_an_answer_to_a_parked_task_wakes_an_idle_worker(depot: Depot) -> None:
    claimed = await parked(depot)
    await depot.redis.delete(depot.keys.wake("default"))

    await depot.store.answer(claimed.id, OWNER, {"input-1": YES})

    assert await depot.redis.llen(depot.keys.wake("default")) == 1  # type: ignore[misc]


async def test_the_worker_that_parked_a_task_has_no_word_in_it_any_more(depot: Depot) -> None:
    """A renewal on its way above all: it would give the task a lease that nobody keeps, and so a crash."""
    claimed = await parked(depot)

    async with depot.nothing_changes():
        assert await depot.renew((claimed.id, claimed.fence)) == [claimed.id]
        assert await depot.report((claimed.id, claimed.fence, Progress(1))) == [claimed.id]
        assert await depot.finish(claimed, DONE) == "lost"
        assert await depot.release(claimed) == "lost"
        assert await depot.say(depot.ann.park_call(claimed.id, claimed.fence)) == [b"lost"]


async def test_answers_that_come_before_the_park_put_the_task_back_in_its_queue(depot: Depot) -> None:
    claimed = await depot.start()
    await depot.ann.ask(claimed.id, 1, [question(1)])
    await depot.store.answer(claimed.id, OWNER, {"input-1": YES})

    assert await depot.say(depot.ann.park_call(claimed.id, 1)) == [b"released"]

    record = await depot.record(claimed.id)
    assert (record.status, record.reason, record.failures) == (Status.PENDING, "answered", 0)
    assert (await depot.take(claimed.id)).crashes == 0


async def test_a_parked_task_can_be_cancelled(depot: Depot) -> None:
    claimed = await parked(depot)

    assert await depot.store.cancel(claimed.id, OWNER)

    assert (await depot.record(claimed.id)).status is Status.CANCELLED
    assert await depot.store.answer(claimed.id, OWNER, {"input-1": YES}) == 0


async def test_a_parked_task_taken_out_of_its_queue_is_put_back_parked(depot: Depot) -> None:
    claimed = await parked(depot)
    await depot.redis.zrem(depot.keys.queue("default"), claimed.id)

    assert await depot.ann.reconcile(timedelta(hours=1)) == 1

    score = await depot.redis.zscore(depot.keys.queue("default"), claimed.id)
    assert score is not None
    assert score > await depot.now_ms() + timedelta(days=365) / timedelta(milliseconds=1)


async def test_parked_tasks_do_not_stand_in_anybodys_way(depot: Depot) -> None:
    for _ in range(3):
        await parked(depot)

    view = await depot.store.create(depot.task())

    assert view.ahead == 0
