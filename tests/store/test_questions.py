"""Questions and answers: kept through crashes, each answered once, never somebody else's."""

from dataclasses import replace
from typing import Any

import pytest

from taskmill.engine.errors import BadArguments, FenceLost, QuestionMismatch, TaskNotFound
from taskmill.engine.events import Event
from taskmill.engine.record import TaskView
from taskmill.engine.status import Move, Status
from taskmill.store.claims.claims import Claimed
from taskmill.store.tasks.tasks import OPERATOR
from tests.support.store_fixture import OWNER, STRANGER, Depot, question

YES, NO = {"yes": True}, {"yes": False}


async def asked(depot: Depot, count: int = 1) -> Claimed:
    """A task that waits for answers to so many questions."""
    claimed = await depot.start()
    assert await depot.ann.ask(claimed.id, 1, [question(n + 1) for n in range(count)]) == [None] * count
    return claimed


async def test_a_question_makes_the_task_wait_and_can_be_read(depot: Depot) -> None:
    claimed = await depot.start()
    before = await depot.record(claimed.id)

    assert await depot.ann.ask(claimed.id, 1, [question(1, "sure?")]) == [None]

    after = await depot.look(claimed.id)
    now = after.record.updated_ms
    waiting = replace(before, status=Status.INPUT_REQUIRED, updated_ms=now, seq=3, questions=1)
    assert after == TaskView(waiting, questions={"input-1": {"message": "sure?"}})
    assert await depot.store.history(claimed.id, after=2) == [Event(3, Move.ASK, now, {"questions": 1})]


async def test_several_questions_are_put_at_once_and_shown_in_the_order_they_were_asked(depot: Depot) -> None:
    """Also beyond nine, where the order of text is another."""
    claimed = await asked(depot, 12)

    view = await depot.look(claimed.id)

    assert list(view.questions) == [f"input-{number}" for number in range(1, 13)]
    assert view.record.questions == 12
    assert await depot.moves(claimed.id) == ["create", "claim", "ask"]


async def test_the_last_answer_lets_the_task_run_on(depot: Depot) -> None:
    claimed = await asked(depot)
    before = await depot.record(claimed.id)

    assert await depot.store.answer(claimed.id, OWNER, {"input-1": YES}) == 1

    after = await depot.look(claimed.id)
    now = after.record.updated_ms
    assert after == TaskView(replace(before, status=Status.RUNNING, updated_ms=now, seq=4, questions=0))
    assert await depot.store.history(claimed.id, after=3) == [Event(4, Move.RESUME, now, {"questions": 0})]
    assert await depot.ann.answers(claimed.id, ["input-1"]) == [YES]


async def test_partial_answers_are_kept_and_the_rest_stays_open(depot: Depot) -> None:
    claimed = await asked(depot, 3)

    assert await depot.store.answer(claimed.id, OWNER, {"input-2": YES}) == 1

    view = await depot.look(claimed.id)
    assert (view.record.status, view.record.questions) == (Status.INPUT_REQUIRED, 2)
    assert list(view.questions) == ["input-1", "input-3"]
    assert await depot.ann.answers(claimed.id, ["input-1", "input-2", "input-3"]) == [None, YES, None]
    assert await depot.moves(claimed.id) == ["create", "claim", "ask", "answer"]

    assert await depot.store.answer(claimed.id, OWNER, {"input-1": NO, "input-3": NO}) == 2
    assert (await depot.record(claimed.id)).status is Status.RUNNING


async def test_unknown_keys_are_passed_over(depot: Depot) -> None:
    claimed = await asked(depot)

    async with depot.nothing_changes():
        assert await depot.store.answer(claimed.id, OWNER, {"input-2": YES, "": YES, "q:input-1": YES}) == 0
    assert await depot.store.answer(claimed.id, OWNER, {"input-2": YES, "input-1": NO}) == 1


async def test_no_answers_are_none_taken(depot: Depot) -> None:
    claimed = await asked(depot)

    async with depot.nothing_changes():
        assert await depot.store.answer(claimed.id, OWNER, {}) == 0


async def test_a_repeated_answer_is_passed_over_and_the_first_one_stays(depot: Depot) -> None:
    claimed = await asked(depot, 2)
    await depot.store.answer(claimed.id, OWNER, {"input-1": YES})

    async with depot.nothing_changes():
        assert await depot.store.answer(claimed.id, OWNER, {"input-1": NO}) == 0
    assert await depot.ann.answers(claimed.id, ["input-1"]) == [YES]


async def test_a_repeated_ask_changes_nothing(depot: Depot) -> None:
    """Its reply was lost. I14: what changes nothing leaves no event."""
    claimed = await asked(depot, 2)
    await depot.store.answer(claimed.id, OWNER, {"input-1": YES})

    async with depot.nothing_changes():
        assert await depot.ann.ask(claimed.id, 1, [question(1), question(2)]) == [YES, None]


async def test_a_repeated_ask_of_what_is_answered_brings_the_answers_and_changes_nothing(depot: Depot) -> None:
    claimed = await asked(depot)
    await depot.store.answer(claimed.id, OWNER, {"input-1": YES})

    async with depot.nothing_changes():
        assert await depot.ann.ask(claimed.id, 1, [question(1)]) == [YES]


async def test_a_second_question_while_one_is_open_is_added_to_it(depot: Depot) -> None:
    """A tool may ask from two places at once."""
    claimed = await asked(depot)

    assert await depot.ann.ask(claimed.id, 1, [question(2)]) == [None]

    view = await depot.look(claimed.id)
    assert (view.record.questions, list(view.questions)) == (2, ["input-1", "input-2"])


async def test_an_attempt_after_a_crash_is_given_the_answers_already_recorded(depot: Depot) -> None:
    claimed = await asked(depot, 2)
    await depot.store.answer(claimed.id, OWNER, {"input-1": YES})
    await depot.lapse(claimed.id)
    again = await depot.take(claimed.id, depot.bob)
    assert (await depot.record(claimed.id)).status is Status.RUNNING

    assert await depot.bob.ask(claimed.id, again.fence, [question(1)]) == [YES]
    assert await depot.bob.ask(claimed.id, again.fence, [question(2)]) == [None]

    view = await depot.look(claimed.id)
    assert (view.record.status, view.record.questions) == (Status.INPUT_REQUIRED, 1)
    assert list(view.questions) == ["input-2"]


async def test_a_key_is_never_used_again(depot: Depot) -> None:
    """Neither after its answer nor in another attempt: a client may answer late, and must not answer something else."""
    claimed = await asked(depot)
    await depot.store.answer(claimed.id, OWNER, {"input-1": YES})
    await depot.lapse(claimed.id)
    again = await depot.take(claimed.id, depot.bob)
    await depot.bob.ask(claimed.id, again.fence, [question(1)])

    async with depot.nothing_changes():
        assert await depot.store.answer(claimed.id, OWNER, {"input-1": NO}) == 0
    assert (await depot.look(claimed.id)).questions == {}


async def test_another_question_under_a_recorded_key_is_refused_and_changes_nothing(depot: Depot) -> None:
    claimed = await asked(depot)
    await depot.lapse(claimed.id)
    again = await depot.take(claimed.id, depot.bob)

    async with depot.nothing_changes():
        with pytest.raises(QuestionMismatch) as refused:
            await depot.bob.ask(claimed.id, again.fence, [question(2, "more?"), question(1, "something else?")])

    assert str(refused.value) == "Question input-1 differs from the one asked before."
    assert refused.value.facts == {"task_id": claimed.id}


async def test_an_answer_while_nobody_runs_the_task_is_kept_for_the_next_attempt(depot: Depot) -> None:
    """A client answers while the worker is dead, or the task was given back."""
    claimed = await asked(depot, 2)
    await depot.lapse(claimed.id)
    await depot.take(claimed.id, depot.bob)
    assert await depot.store.answer(claimed.id, OWNER, {"input-1": YES}) == 1
    assert (await depot.record(claimed.id)).status is Status.RUNNING

    assert await depot.store.answer(claimed.id, OWNER, {"input-2": NO}) == 1

    assert (await depot.record(claimed.id)).status is Status.RUNNING
    assert await depot.bob.ask(claimed.id, 2, [question(1), question(2)]) == [YES, NO]
    assert await depot.moves(claimed.id) == ["create", "claim", "ask", "reclaim", "answer", "answer"]


@pytest.mark.parametrize("fence", [0, 2])
async def test_an_ask_under_another_fence_is_lost_and_changes_nothing(depot: Depot, fence: int) -> None:
    claimed = await depot.start()

    async with depot.nothing_changes():
        with pytest.raises(FenceLost):
            await depot.ann.ask(claimed.id, fence, [question(1)])


async def test_an_ask_by_a_worker_that_lost_the_task_changes_nothing(depot: Depot) -> None:
    reclaimed, released, finished = [await depot.start() for _ in range(3)]
    await depot.lapse(reclaimed.id)
    await depot.take(reclaimed.id, depot.bob)
    await depot.release(released)
    await depot.finish(finished)

    async with depot.nothing_changes():
        for task_id in (reclaimed.id, released.id, finished.id, "never-seen"):
            with pytest.raises(FenceLost):
                await depot.ann.ask(task_id, 1, [question(1)])


@pytest.mark.parametrize("principal", [STRANGER, OPERATOR, "anonymous"])
async def test_somebody_elses_questions_cannot_be_answered_and_the_task_looks_unknown(
    depot: Depot, principal: str
) -> None:
    """I13; an operator may look and cancel, but does not answer in a user's name."""
    claimed = await asked(depot)

    async with depot.nothing_changes():
        with pytest.raises(TaskNotFound):
            await depot.store.answer(claimed.id, principal, {"input-1": YES})
        with pytest.raises(TaskNotFound):
            await depot.store.answer("never-seen", principal, {"input-1": YES})


async def test_an_answer_to_an_ended_task_is_not_taken(depot: Depot) -> None:
    finished, cancelled = await asked(depot), await asked(depot)
    await depot.finish(finished)
    await depot.store.cancel(cancelled.id, OWNER)

    async with depot.nothing_changes():
        assert await depot.store.answer(finished.id, OWNER, {"input-1": YES}) == 0
        assert await depot.store.answer(cancelled.id, OWNER, {"input-1": YES}) == 0


async def test_an_answer_is_signalled_to_the_worker_that_waits(depot: Depot) -> None:
    claimed = await asked(depot)
    async with depot.redis.pubsub(ignore_subscribe_messages=True) as ear:
        await ear.subscribe(depot.keys.signal("ann"))
        await ear.get_message(timeout=5)

        await depot.store.answer(claimed.id, OWNER, {"input-1": YES})

        message = await ear.get_message(timeout=5)
    assert message is not None
    assert message["data"] == f"answer {claimed.id}".encode()


@pytest.mark.parametrize("answer", ["half a pair \ud800", float("nan"), object()], ids=["surrogate", "nan", "object"])
async def test_an_answer_that_is_not_json_is_the_callers_fault_and_changes_nothing(depot: Depot, answer: Any) -> None:
    claimed = await asked(depot)

    async with depot.nothing_changes():
        with pytest.raises(BadArguments, match="cannot be written as JSON"):
            await depot.store.answer(claimed.id, OWNER, {"input-1": answer})


@pytest.mark.parametrize("answer", [None, False, 0, "", [], {}], ids=repr)
async def test_an_empty_answer_is_an_answer(depot: Depot, answer: Any) -> None:
    claimed = await asked(depot)

    assert await depot.store.answer(claimed.id, OWNER, {"input-1": {"content": answer}}) == 1
    assert await depot.ann.answers(claimed.id, ["input-1"]) == [{"content": answer}]
