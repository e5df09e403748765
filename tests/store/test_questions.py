"""Questions and answers: kept through crashes, each answered once, never another principal's."""

from dataclasses import replace
from typing import Any

import pytest

from taskmill.engine.errors import BadArguments, FenceLost, QuestionMismatch, TaskNotFound
from taskmill.engine.events import Event
from taskmill.engine.record import TaskView
from taskmill.engine.status import Move, Status
from taskmill.store.claims.claims import Claimed
from taskmill.store.tasks.tasks import OPERATOR
from tests.support.store_fixture import OWNER, STRANGER, StoreFixture, question

YES, NO = {"yes": True}, {"yes": False}


async def asked(stores: StoreFixture, count: int = 1) -> Claimed:
    """A task that waits for answers to so many questions."""
    claimed = await stores.start()
    assert await stores.ann.ask(claimed.id, 1, [question(n + 1) for n in range(count)]) == [None] * count
    return claimed


async def test_a_question_makes_the_task_wait_and_can_be_read(stores: StoreFixture) -> None:
    claimed = await stores.start()
    before = await stores.record(claimed.id)

    assert await stores.ann.ask(claimed.id, 1, [question(1, "sure?")]) == [None]

    after = await stores.read(claimed.id)
    now = after.record.updated_ms
    waiting = replace(before, status=Status.INPUT_REQUIRED, updated_ms=now, seq=3, questions=1)
    assert after == TaskView(waiting, questions={"input-1": {"message": "sure?"}})
    assert await stores.store.history(claimed.id, after=2) == [Event(3, Move.ASK, now, {"questions": 1})]


async def test_several_questions_are_put_at_once_and_shown_in_the_order_they_were_asked(stores: StoreFixture) -> None:
    """Also beyond nine, where the order of text is another."""
    claimed = await asked(stores, 12)

    view = await stores.read(claimed.id)

    assert list(view.questions) == [f"input-{number}" for number in range(1, 13)]
    assert view.record.questions == 12
    assert await stores.moves(claimed.id) == ["create", "claim", "ask"]


async def test_the_last_answer_lets_the_task_run_on(stores: StoreFixture) -> None:
    claimed = await asked(stores)
    before = await stores.record(claimed.id)

    assert await stores.store.answer(claimed.id, OWNER, {"input-1": YES}) == 1

    after = await stores.read(claimed.id)
    now = after.record.updated_ms
    assert after == TaskView(replace(before, status=Status.RUNNING, updated_ms=now, seq=4, questions=0))
    assert await stores.store.history(claimed.id, after=3) == [Event(4, Move.RESUME, now, {"questions": 0})]
    assert await stores.ann.answers(claimed.id, ["input-1"]) == [YES]


async def test_partial_answers_are_kept_and_the_rest_stays_open(stores: StoreFixture) -> None:
    claimed = await asked(stores, 3)

    assert await stores.store.answer(claimed.id, OWNER, {"input-2": YES}) == 1

    view = await stores.read(claimed.id)
    assert (view.record.status, view.record.questions) == (Status.INPUT_REQUIRED, 2)
    assert list(view.questions) == ["input-1", "input-3"]
    assert await stores.ann.answers(claimed.id, ["input-1", "input-2", "input-3"]) == [None, YES, None]
    assert await stores.moves(claimed.id) == ["create", "claim", "ask", "answer"]

    assert await stores.store.answer(claimed.id, OWNER, {"input-1": NO, "input-3": NO}) == 2
    assert (await stores.record(claimed.id)).status is Status.RUNNING


async def test_unknown_keys_are_passed_over(stores: StoreFixture) -> None:
    claimed = await asked(stores)

    async with stores.nothing_changes():
        assert await stores.store.answer(claimed.id, OWNER, {"input-2": YES, "": YES, "q:input-1": YES}) == 0
    assert await stores.store.answer(claimed.id, OWNER, {"input-2": YES, "input-1": NO}) == 1


async def test_no_answers_are_none_taken(stores: StoreFixture) -> None:
    claimed = await asked(stores)

    async with stores.nothing_changes():
        assert await stores.store.answer(claimed.id, OWNER, {}) == 0


async def test_a_repeated_answer_is_passed_over_and_the_first_one_stays(stores: StoreFixture) -> None:
    claimed = await asked(stores, 2)
    await stores.store.answer(claimed.id, OWNER, {"input-1": YES})

    async with stores.nothing_changes():
        assert await stores.store.answer(claimed.id, OWNER, {"input-1": NO}) == 0
    assert await stores.ann.answers(claimed.id, ["input-1"]) == [YES]


async def test_a_repeated_ask_changes_nothing(stores: StoreFixture) -> None:
    """Its reply was lost. I14: what changes nothing leaves no event."""
    claimed = await asked(stores, 2)
    await stores.store.answer(claimed.id, OWNER, {"input-1": YES})

    async with stores.nothing_changes():
        assert await stores.ann.ask(claimed.id, 1, [question(1), question(2)]) == [YES, None]


async def test_a_repeated_ask_of_what_is_answered_brings_the_answers_and_changes_nothing(stores: StoreFixture) -> None:
    claimed = await asked(stores)
    await stores.store.answer(claimed.id, OWNER, {"input-1": YES})

    async with stores.nothing_changes():
        assert await stores.ann.ask(claimed.id, 1, [question(1)]) == [YES]


async def test_a_second_question_while_one_is_open_is_added_to_it(stores: StoreFixture) -> None:
    """A tool may ask from two places at once."""
    claimed = await asked(stores)

    assert await stores.ann.ask(claimed.id, 1, [question(2)]) == [None]

    view = await stores.read(claimed.id)
    assert (view.record.questions, list(view.questions)) == (2, ["input-1", "input-2"])


async def test_an_attempt_after_a_crash_is_given_the_answers_already_recorded(stores: StoreFixture) -> None:
    claimed = await asked(stores, 2)
    await stores.store.answer(claimed.id, OWNER, {"input-1": YES})
    await stores.lapse(claimed.id)
    again = await stores.take(claimed.id, stores.bob)
    assert (await stores.record(claimed.id)).status is Status.RUNNING

    assert await stores.bob.ask(claimed.id, again.fence, [question(1)]) == [YES]
    assert await stores.bob.ask(claimed.id, again.fence, [question(2)]) == [None]

    view = await stores.read(claimed.id)
    assert (view.record.status, view.record.questions) == (Status.INPUT_REQUIRED, 1)
    assert list(view.questions) == ["input-2"]


async def test_a_key_is_never_used_again(stores: StoreFixture) -> None:
    """Neither after its answer nor in another attempt: a client may answer late, and must not answer something else."""
    claimed = await asked(stores)
    await stores.store.answer(claimed.id, OWNER, {"input-1": YES})
    await stores.lapse(claimed.id)
    again = await stores.take(claimed.id, stores.bob)
    await stores.bob.ask(claimed.id, again.fence, [question(1)])

    async with stores.nothing_changes():
        assert await stores.store.answer(claimed.id, OWNER, {"input-1": NO}) == 0
    assert (await stores.read(claimed.id)).questions == {}


async def test_another_question_under_a_recorded_key_is_refused_and_changes_nothing(stores: StoreFixture) -> None:
    claimed = await asked(stores)
    await stores.lapse(claimed.id)
    again = await stores.take(claimed.id, stores.bob)

    async with stores.nothing_changes():
        with pytest.raises(QuestionMismatch) as refused:
            await stores.bob.ask(claimed.id, again.fence, [question(2, "more?"), question(1, "something else?")])

    assert str(refused.value) == "Question input-1 differs from the one asked before."
    assert refused.value.facts == {"task_id": claimed.id}


async def test_an_answer_while_no_worker_runs_the_task_is_kept_for_the_next_attempt(stores: StoreFixture) -> None:
    """A client answers while the worker is dead, or the task was given back."""
    claimed = await asked(stores, 2)
    await stores.lapse(claimed.id)
    await stores.take(claimed.id, stores.bob)
    assert await stores.store.answer(claimed.id, OWNER, {"input-1": YES}) == 1
    assert (await stores.record(claimed.id)).status is Status.RUNNING

    assert await stores.store.answer(claimed.id, OWNER, {"input-2": NO}) == 1

    assert (await stores.record(claimed.id)).status is Status.RUNNING
    assert await stores.bob.ask(claimed.id, 2, [question(1), question(2)]) == [YES, NO]
    assert await stores.moves(claimed.id) == ["create", "claim", "ask", "reclaim", "answer", "answer"]


@pytest.mark.parametrize("fence", [0, 2])
async def test_an_ask_under_another_fence_is_lost_and_changes_nothing(stores: StoreFixture, fence: int) -> None:
    claimed = await stores.start()

    async with stores.nothing_changes():
        with pytest.raises(FenceLost):
            await stores.ann.ask(claimed.id, fence, [question(1)])


async def test_an_ask_by_a_worker_that_lost_the_task_changes_nothing(stores: StoreFixture) -> None:
    reclaimed, released, finished = [await stores.start() for _ in range(3)]
    await stores.lapse(reclaimed.id)
    await stores.take(reclaimed.id, stores.bob)
    await stores.release(released)
    await stores.finish(finished)

    async with stores.nothing_changes():
        for task_id in (reclaimed.id, released.id, finished.id, "never-seen"):
            with pytest.raises(FenceLost):
                await stores.ann.ask(task_id, 1, [question(1)])


@pytest.mark.parametrize("principal", [STRANGER, OPERATOR, "anonymous"])
async def test_another_principals_questions_cannot_be_answered_and_the_task_looks_unknown(
    stores: StoreFixture, principal: str
) -> None:
    """I13; an operator may look and cancel, but does not answer in a user's name."""
    claimed = await asked(stores)

    async with stores.nothing_changes():
        with pytest.raises(TaskNotFound):
            await stores.store.answer(claimed.id, principal, {"input-1": YES})
        with pytest.raises(TaskNotFound):
            await stores.store.answer("never-seen", principal, {"input-1": YES})


async def test_an_answer_to_an_ended_task_is_not_taken(stores: StoreFixture) -> None:
    finished, cancelled = await asked(stores), await asked(stores)
    await stores.finish(finished)
    await stores.store.cancel(cancelled.id, OWNER)

    async with stores.nothing_changes():
        assert await stores.store.answer(finished.id, OWNER, {"input-1": YES}) == 0
        assert await stores.store.answer(cancelled.id, OWNER, {"input-1": YES}) == 0


async def test_an_answer_is_signalled_to_the_worker_that_waits(stores: StoreFixture) -> None:
    claimed = await asked(stores)
    async with stores.redis.pubsub(ignore_subscribe_messages=True) as ear:
        await ear.subscribe(stores.keys.signal("ann"))
        await ear.get_message(timeout=5)

        await stores.store.answer(claimed.id, OWNER, {"input-1": YES})

        message = await ear.get_message(timeout=5)
    assert message is not None
    assert message["data"] == f"answer {claimed.id}".encode()


@pytest.mark.parametrize("answer", ["half a pair \ud800", float("nan"), object()], ids=["surrogate", "nan", "object"])
async def test_an_answer_that_is_not_json_is_the_callers_fault_and_changes_nothing(
    stores: StoreFixture, answer: Any
) -> None:
    claimed = await asked(stores)

    async with stores.nothing_changes():
        with pytest.raises(BadArguments, match="cannot be written as JSON"):
            await stores.store.answer(claimed.id, OWNER, {"input-1": answer})


@pytest.mark.parametrize("answer", [None, False, 0, "", [], {}], ids=repr)
async def test_an_empty_answer_is_an_answer(stores: StoreFixture, answer: Any) -> None:
    claimed = await asked(stores)

    assert await stores.store.answer(claimed.id, OWNER, {"input-1": {"content": answer}}) == 1
    assert await stores.ann.answers(claimed.id, ["input-1"]) == [{"content": answer}]
