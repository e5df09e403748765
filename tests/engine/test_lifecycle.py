"""A record is the fold of its events: the pure lifecycle, without any store."""

from dataclasses import replace
from typing import Any

import pytest

from taskmill.engine.errors import IllegalMove
from taskmill.engine.events import Event
from taskmill.engine.lifecycle import apply, fold
from taskmill.engine.record import Progress, TaskRecord
from taskmill.engine.status import Move, Status

BORN: dict[str, Any] = {
    "id": "t",
    "tool": "count",
    "queue": "default",
    "principal": "anonymous",
    "retention_ms": 5000,
    "poll_ms": 100,
}
PENDING = TaskRecord(status=Status.PENDING, created_ms=10, updated_ms=10, seq=1, **BORN)


def history(*steps: tuple[Move, dict[str, Any]]) -> list[Event]:
    """Numbered events, ten milliseconds apart, after a creation."""
    moves = [(Move.CREATE, BORN), *steps]
    return [Event(at, move, 10 * at, facts) for at, (move, facts) in enumerate(moves, 1)]


def claimed(fence: int, **facts: Any) -> tuple[Move, dict[str, Any]]:
    return Move.CLAIM, {"fence": fence, "attempt": fence, "crashes": 0, "worker": "ann", **facts}


def test_a_creation_makes_a_pending_record() -> None:
    assert fold(history()) == PENDING


def test_a_whole_life_folds_to_the_record_it_ends_in() -> None:
    events = history(
        claimed(1),
        (Move.PROGRESS, {"done": 1.0, "total": 4.0, "message": "one"}),
        (Move.ASK, {"questions": 2}),
        (Move.ANSWER, {"questions": 1}),
        (Move.RESUME, {"questions": 0}),
        (Move.RELEASE, {"failures": 1, "due_ms": 99, "reason": "retry"}),
        claimed(2),
        (Move.RECLAIM, {"fence": 3, "attempt": 3, "crashes": 1, "worker": "bob"}),
        (Move.COMPLETE, {"reason": None}),
    )

    assert fold(events) == replace(
        PENDING,
        status=Status.COMPLETED,
        updated_ms=100,
        seq=10,
        fence=3,
        attempt=3,
        crashes=1,
        failures=1,
        worker="bob",
        started_ms=20,
        ended_ms=100,
        progress=Progress(1.0, 4.0, "one"),
    )


def test_a_release_says_when_and_why_and_leaves_no_worker() -> None:
    events = history(claimed(1), (Move.RELEASE, {"failures": 0, "due_ms": 77, "reason": "drain"}))

    assert fold(events) == replace(
        PENDING, updated_ms=30, seq=3, fence=1, attempt=1, started_ms=20, due_ms=77, reason="drain"
    )


def test_a_parked_task_has_no_worker_and_an_answer_puts_it_back_in_the_queue() -> None:
    parked = (claimed(1), (Move.ASK, {"questions": 1}), (Move.PARK, {"fence": 2}))
    waiting = replace(PENDING, updated_ms=40, seq=4, fence=2, attempt=1, started_ms=20, questions=1)

    assert fold(history(*parked)) == replace(waiting, status=Status.INPUT_REQUIRED)
    assert fold(history(*parked, (Move.WAKE, {"questions": 0}))) == replace(waiting, updated_ms=50, seq=5, questions=0)


def test_a_claim_clears_when_and_why_and_keeps_the_first_start() -> None:
    released = (Move.RELEASE, {"failures": 0, "due_ms": 77, "reason": "drain"})

    assert fold(history(claimed(1), released, claimed(2))) == replace(
        PENDING, status=Status.RUNNING, updated_ms=40, seq=4, fence=2, attempt=2, started_ms=20, worker="ann"
    )


def test_an_end_leaves_no_open_question() -> None:
    events = history(claimed(1), (Move.ASK, {"questions": 2}), (Move.CANCEL, {"fence": 2, "reason": "cancelled"}))

    assert fold(events) == replace(
        PENDING,
        status=Status.CANCELLED,
        updated_ms=40,
        seq=4,
        fence=2,
        attempt=1,
        worker="ann",
        started_ms=20,
        ended_ms=40,
        reason="cancelled",
    )


def test_applying_an_event_leaves_the_record_and_the_event_as_they_were() -> None:
    event = history(claimed(1))[1]

    apply(PENDING, event)

    assert (PENDING, event) == (fold(history()), history(claimed(1))[1])


@pytest.mark.parametrize(
    ("events", "complaint"),
    [
        ([], "without events"),
        (history(claimed(1))[1:], "starts with event 1, create"),
        ([Event(2, Move.CREATE, 10, BORN)], "starts with event 1, create"),
        (history((Move.CREATE, BORN)), "create from pending"),
        ([history()[0], Event(3, Move.CLAIM, 30, {"fence": 1})], "event 3 after 1"),
    ],
    ids=["nothing", "no creation", "creation with a late number", "second creation", "gap"],
)
def test_a_history_that_cannot_have_happened_is_refused(events: list[Event], complaint: str) -> None:
    with pytest.raises(IllegalMove, match=complaint):
        fold(events)


@pytest.mark.parametrize("move", [Move.CLAIM, Move.CANCEL])
@pytest.mark.parametrize("fence", [0, 2, 3])
def test_a_fence_that_does_not_rise_is_refused(move: Move, fence: int) -> None:
    """I5."""
    record = replace(PENDING, fence=3)

    with pytest.raises(IllegalMove, match="fence did not rise"):
        apply(record, Event(2, move, 20, {"fence": fence}))


def test_a_claim_without_a_fence_is_refused() -> None:
    with pytest.raises(IllegalMove, match="fence did not rise"):
        apply(PENDING, Event(2, Move.CLAIM, 20, {}))


def test_time_that_runs_backwards_is_refused_and_time_that_stands_still_is_not() -> None:
    """I14."""
    with pytest.raises(IllegalMove, match="backwards"):
        apply(PENDING, Event(2, Move.CANCEL, 9, {"fence": 1}))
    assert apply(PENDING, Event(2, Move.CANCEL, 10, {"fence": 1})).updated_ms == 10
