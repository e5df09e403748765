"""Finish: exactly one terminal state, by the worker that holds the fence."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from anyio import fail_after, sleep

from taskmill.engine.errors import OperatorError, TaskNotFound
from taskmill.engine.events import Event
from taskmill.engine.outcome import Failed, Fault, Outcome, Refused, Returned
from taskmill.engine.record import Progress, TaskView
from taskmill.engine.status import Move, Status
from taskmill.store.claims.claims import Claimed
from tests.support.store_fixture import DONE, OWNER, StoreFixture, question

FAILED = Failed(Fault.TIMEOUT, "count ran longer than its limit of 1 s.", "abcd")


@pytest.mark.parametrize(
    ("outcome", "status", "move", "reason"),
    [
        (DONE, Status.COMPLETED, Move.COMPLETE, None),
        (Returned({"content": []}, is_error=True), Status.COMPLETED, Move.COMPLETE, "tool_error"),
        (Refused(-32602, "no such file", {"path": "a"}), Status.FAILED, Move.FAIL, None),
        (FAILED, Status.FAILED, Move.FAIL, "timeout"),
    ],
    ids=["result", "tool error", "protocol error", "fault"],
)
async def test_a_finished_task_shows_its_outcome(
    stores: StoreFixture, outcome: Outcome, status: Status, move: Move, reason: str | None
) -> None:
    claimed = await stores.start()
    before = await stores.record(claimed.id)

    assert await stores.finish(claimed, outcome) == "finished"

    after = await stores.read(claimed.id)
    now = after.record.updated_ms
    ended = replace(before, status=status, updated_ms=now, ended_ms=now, seq=3, reason=reason)
    assert after == TaskView(ended, outcome)
    assert await stores.store.history(claimed.id, after=2) == [Event(3, move, now, {"reason": reason})]


async def test_a_finished_task_leaves_only_what_can_be_read_and_that_for_its_retention(stores: StoreFixture) -> None:
    """I10."""
    claimed = await stores.start(retention=timedelta(minutes=10))
    await stores.ann.ask(claimed.id, 1, [question(1)])
    await stores.redis.set(f"arq:retry:{claimed.id}", 1)  # a stock worker's own counter
    await stores.finish(claimed)

    found = await stores.found()

    keys = stores.keys
    kept = [keys.record(claimed.id), keys.events(claimed.id), keys.result(claimed.id)]
    assert sorted(found.values) == sorted([*kept, keys.all, keys.fading, keys.ended, keys.epoch, keys.kept(OWNER)])
    assert [599_000 < found.ttls[key] <= 600_000 for key in kept] == [True, True, True]


async def test_a_task_past_its_retention_is_not_found(stores: StoreFixture) -> None:
    claimed = await stores.start()
    await stores.finish(claimed)
    for key in (stores.keys.record, stores.keys.events, stores.keys.result):
        await stores.redis.pexpire(key(claimed.id), 1)

    with fail_after(30):
        while await stores.redis.exists(stores.keys.record(claimed.id)):
            await sleep(0.001)

    with pytest.raises(TaskNotFound):
        await stores.store.read(claimed.id, OWNER)
    with pytest.raises(TaskNotFound):
        await stores.store.cancel(claimed.id, OWNER)
    with pytest.raises(TaskNotFound):
        await stores.store.answer(claimed.id, OWNER, {})
    assert await stores.finish(claimed) == "lost"


async def test_a_repeated_finish_is_answered_already_and_changes_nothing(stores: StoreFixture) -> None:
    """Its reply was lost."""
    claimed = await stores.start()
    call = stores.ann.finish_call(claimed.id, 1, DONE)
    assert await stores.run(call) == [b"finished"]

    async with stores.nothing_changes():
        assert await stores.run(call) == [b"already"]


async def test_another_outcome_under_the_same_fence_is_too_late_and_changes_nothing(stores: StoreFixture) -> None:
    claimed = await stores.start()
    await stores.finish(claimed, DONE)

    async with stores.nothing_changes():
        assert await stores.finish(claimed, Returned({"content": []})) == "lost"
        assert await stores.finish(claimed, FAILED) == "lost"


@pytest.mark.parametrize("fence", [0, 2])
async def test_the_same_outcome_under_another_fence_is_not_the_same_finish(stores: StoreFixture, fence: int) -> None:
    claimed = await stores.start()
    await stores.finish(claimed, DONE)

    async with stores.nothing_changes():
        assert await stores.finish(claimed, DONE, fence=fence) == "lost"


@pytest.mark.parametrize("fence", [0, 2])
async def test_a_finish_under_another_fence_is_lost_and_changes_nothing(stores: StoreFixture, fence: int) -> None:
    claimed = await stores.start()

    async with stores.nothing_changes():
        assert await stores.finish(claimed, fence=fence) == "lost"


async def test_a_late_finish_keeps_a_cancel(stores: StoreFixture) -> None:
    """I8; also under the fence that the cancel left."""
    claimed = await stores.start()
    await stores.store.cancel(claimed.id, OWNER)

    async with stores.nothing_changes():
        assert await stores.finish(claimed) == "lost"
        assert await stores.finish(claimed, fence=2) == "lost"


async def test_a_late_finish_does_not_end_the_next_workers_attempt(stores: StoreFixture) -> None:
    claimed = await stores.start()
    await stores.lapse(claimed.id)
    again = await stores.take(claimed.id, stores.bob)

    async with stores.nothing_changes():
        assert await stores.finish(claimed) == "lost"

    assert await stores.finish(again) == "finished"


async def test_a_finish_after_the_lease_counts_while_no_other_worker_has_claimed(stores: StoreFixture) -> None:
    claimed = await stores.start()
    await stores.lapse(claimed.id)

    assert await stores.finish(claimed) == "finished"
    assert (await stores.claim(stores.bob)).tasks == []


async def test_a_finish_of_what_is_pending_or_unknown_is_lost_and_changes_nothing(stores: StoreFixture) -> None:
    claimed = await stores.start()
    await stores.release(claimed)
    fresh = Claimed(await stores.create(), 0, 0, 0, 0, "count", OWNER, b"{}")

    async with stores.nothing_changes():
        assert await stores.finish(claimed) == "lost"
        assert await stores.finish(claimed, FAILED) == "lost"
        assert await stores.finish(fresh) == "lost"
        assert await stores.finish(fresh, FAILED) == "lost"
        assert await stores.finish(replace(fresh, id="never-seen")) == "lost"
        assert await stores.finish(replace(fresh, id="never-seen", fence=1)) == "lost"


async def test_a_task_that_waits_for_an_answer_can_be_finished(stores: StoreFixture) -> None:
    """The tool gave up waiting."""
    claimed = await stores.start()
    await stores.ann.ask(claimed.id, 1, [question(1)])

    assert await stores.finish(claimed) == "finished"
    assert (await stores.record(claimed.id)).questions == 0


async def test_the_last_progress_goes_with_the_end_and_a_repeated_batch_is_safe(stores: StoreFixture) -> None:
    claimed = await stores.start()
    turn = [
        stores.ann.progress_call([(claimed.id, 1, Progress(4.0, 4.0))]),
        stores.ann.finish_call(claimed.id, 1, DONE),
    ]
    assert await stores.run(*turn) == [[], b"finished"]

    async with stores.nothing_changes():
        assert await stores.run(*turn) == [[claimed.id.encode()], b"already"]

    assert (await stores.record(claimed.id)).progress == Progress(4.0, 4.0)


async def test_many_tasks_end_in_one_batch_each_by_itself(stores: StoreFixture) -> None:
    tasks = [await stores.start() for _ in range(3)]
    await stores.store.cancel(tasks[1].id, OWNER)
    ends = [stores.ann.finish_call(task.id, task.fence, DONE) for task in tasks]

    assert await stores.run(*ends) == [b"finished", b"lost", b"finished"]


def result_of(size: int) -> Returned:
    """A result whose stored form has `size` bytes."""
    return Returned({"text": "x" * (size - len('{"returned":{"text":""},"is_error":false}'))})


async def test_a_result_at_the_limit_is_kept(stores: StoreFixture) -> None:
    claimed = await stores.start()

    await stores.finish(claimed, result_of(10_000))

    assert (await stores.read(claimed.id)).outcome == result_of(10_000)


async def test_a_result_over_the_limit_fails_the_task_and_says_so(stores: StoreFixture) -> None:
    claimed = await stores.start()

    assert await stores.finish(claimed, result_of(10_001)) == "finished"

    view = await stores.read(claimed.id)
    text = "The tool's result is 10,001 bytes; the limit is 10,000. Return less, or a reference to it."
    assert (view.record.status, view.record.reason) == (Status.FAILED, "too_large")
    assert view.outcome == Failed(Fault.TOO_LARGE, text)


def nested(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {}
    for _ in range(depth):
        inner = {"in": inner}
    return inner


@pytest.mark.parametrize(
    "outcome",
    [
        Returned({"at": object()}),
        Returned({"at": float("nan")}),
        Returned({"at": "half a pair \ud800"}),
        Returned({"at": {1, 2}}),
        Returned(nested(20_000)),
        Refused(-1, "no", b"bytes"),
    ],
    ids=["object", "nan", "surrogate", "set", "too deep", "error data"],
)
async def test_a_result_that_is_not_json_fails_the_task_and_says_so(stores: StoreFixture, outcome: Outcome) -> None:
    """It must never come back to a worker as an exception: the next worker would stumble over it too."""
    claimed = await stores.start()

    assert await stores.finish(claimed, outcome) == "finished"

    view = await stores.read(claimed.id)
    assert (view.record.status, view.record.reason) == (Status.FAILED, "not_json")
    assert view.outcome == Failed(Fault.NOT_JSON, "The tool's result cannot be written as JSON.")


async def test_a_stored_outcome_that_is_damaged_reads_as_unreadable(stores: StoreFixture) -> None:
    claimed = await stores.start()
    await stores.finish(claimed)

    for damaged in (b"\xff", b"{", b"[]", b'{"other":1}'):
        await stores.redis.set(stores.keys.result(claimed.id), damaged, keepttl=True)

        outcome = (await stores.read(claimed.id)).outcome

        assert isinstance(outcome, Failed)
        assert outcome.fault is Fault.UNREADABLE


async def test_many_endings_at_once_are_each_answered_and_a_damaged_one_keeps_no_other_back(
    stores: StoreFixture,
) -> None:
    """They are one script's work, in several pieces."""
    for _ in range(70):
        await stores.create()
    tasks = (await stores.claim(room=70)).tasks
    await stores.finish(tasks[3])
    calls = [stores.ann.finish_call(task.id, task.fence + (at == 5), DONE) for at, task in enumerate(tasks)]

    replies = await stores.run(*calls)

    assert replies == [{3: b"already", 5: b"lost"}.get(at, b"finished") for at in range(70)]

    others = [await stores.start() for _ in range(3)]
    await stores.redis.set(stores.keys.record("damaged"), "no hash")
    with pytest.raises(OperatorError):
        await stores.run(
            *(stores.ann.finish_call(task_id, 1, DONE) for task_id in (others[0].id, "damaged", others[1].id))
        )
    ended = [(await stores.record(task.id)).status for task in others]
    assert ended == [Status.COMPLETED, Status.COMPLETED, Status.RUNNING]
    await stores.redis.delete(stores.keys.record("damaged"))
