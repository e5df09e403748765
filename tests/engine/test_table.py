"""The table of moves: what is legal from where, and that nothing else is."""

import pytest

from taskmill.engine.errors import IllegalMove
from taskmill.engine.events import FINISHING, Event
from taskmill.engine.lifecycle import apply
from taskmill.engine.record import TaskRecord
from taskmill.engine.status import LEGAL_MOVES, TERMINAL, Move, Status

P, R, I = Status.PENDING, Status.RUNNING, Status.INPUT_REQUIRED  # noqa: E741 (three columns of one table)
OPEN, HELD = {P, R, I}, {R, I}

DESIGNED = {
    Move.CREATE: (set(), P),
    Move.CLAIM: ({P}, R),
    Move.RECLAIM: (HELD, R),
    Move.PROGRESS: (HELD, None),
    Move.ASK: (HELD, I),
    Move.ANSWER: (OPEN, None),
    Move.RESUME: ({I}, R),
    Move.PARK: ({I}, None),
    Move.WAKE: ({I}, P),
    Move.RELEASE: (HELD, P),
    Move.COMPLETE: (HELD, Status.COMPLETED),
    Move.FAIL: (HELD, Status.FAILED),
    Move.OVERDUE: (OPEN, Status.FAILED),
    Move.CANCEL: (OPEN, Status.CANCELLED),
}
PAIRS = [(move, status) for move in Move for status in Status]


def record_in(status: Status) -> TaskRecord:
    return TaskRecord(
        id="t",
        tool="count",
        queue="default",
        principal="anonymous",
        status=status,
        created_ms=1000,
        updated_ms=2000,
        seq=4,
        fence=7,
        attempt=7,
    )


def next_event(move: Move) -> Event:
    """The event that would follow, with what its move must bring."""
    rising = {"fence": 8} if move in (Move.CLAIM, Move.RECLAIM, Move.PARK, Move.CANCEL) else {}
    return Event(5, move, 3000, dict(rising))


def test_the_table_is_the_one_of_the_design() -> None:
    assert {move: (set(sources), target) for move, (sources, target) in LEGAL_MOVES.items()} == DESIGNED


@pytest.mark.parametrize(("move", "status"), PAIRS)
def test_a_move_the_table_allows_leads_where_it_says_and_any_other_raises_and_changes_nothing(
    move: Move, status: Status
) -> None:
    before = record_in(status)
    sources, target = DESIGNED[move]

    if status in sources:
        assert apply(before, next_event(move)).status is (target or status)
    else:
        with pytest.raises(IllegalMove, match=f"{move.value} from {status.value}"):
            apply(before, next_event(move))
    assert before == record_in(status)


def test_a_terminal_state_has_no_way_out() -> None:
    assert {move: sources & TERMINAL for move, (sources, _) in LEGAL_MOVES.items()} == dict.fromkeys(Move, frozenset())


def test_every_other_state_can_be_cancelled() -> None:
    assert LEGAL_MOVES[Move.CANCEL][0] == frozenset(Status) - TERMINAL


def test_the_finishing_moves_are_those_that_lead_to_a_terminal_state() -> None:
    assert {move for move, (_, target) in LEGAL_MOVES.items() if target in TERMINAL} == FINISHING


def test_the_table_cannot_be_edited() -> None:
    with pytest.raises(TypeError):
        LEGAL_MOVES[Move.CANCEL] = (frozenset(Status), None)  # type: ignore[index]
