"""Fences over failovers, small enough to look at all of it: two tasks, and a Redis that may lose its last writes.

What a claim was told stays told, whatever Redis has lost of it. The moves follow `lowest_fence` and `next_fence` in
store/lua/prelude.lua; each `in self._broken` is a fault that can be put in on purpose (`mutants.py`).

Time is in milliseconds of which no two writes share one: nobody claims a task a thousand times a second. The two gaps
that decision 0021 names are left out, in `_is_known_gap`.
"""

from collections.abc import Iterator
from typing import NamedTuple, TypeVar

from tests.model.protocol import Violation

__all__ = ["Failovers", "History", "Limits"]

T = TypeVar("T")

_BEYOND = 1_000_000
"""How far a floor is above the one before, where the clock has gone back."""
_MOMENTS = {"": 1, ", by a clock that is behind": -20, ", much later": 2 * _BEYOND}
"""Milliseconds from the last write to a failover, as its server's clock has it."""


class Limits(NamedTuple):
    """How much is looked at."""

    tasks: int = 2
    writes: int = 4
    failovers: int = 2
    lost: int = 3
    """How many of the last writes a failover may lose."""


class Stored(NamedTuple):
    """What a failover may bring back to an earlier state."""

    fences: tuple[int, ...]
    holders: tuple[int, ...]
    """The number of the claim that has each task, 0 = none."""
    noted: int = 0
    """The history under which a fence was last handed out, 0 = none was."""
    floor: int = 0


class History(NamedTuple):
    """Redis, and what everybody was told."""

    stored: Stored
    past: tuple[Stored, ...] = ()
    """What was stored before each of the last writes."""
    history: int = 1
    """What Redis calls the history of its data."""
    is_promoted: bool = False
    """It tells of a history before."""
    time: int = 10 * _BEYOND
    clock: int = 10 * _BEYOND
    """The time as this server has it."""
    writes: int = 0
    failovers: int = 0
    noted: int = 0
    """The last history that was ever noted."""
    floors: int = 0
    """The highest floor that was."""
    given: tuple[tuple[tuple[int, int], ...], ...] = ()
    """Of each task: claims, and the fence that each was told."""


class Failovers:
    """Every step that can happen. `broken`: the faults that are put in."""

    def __init__(self, limits: Limits, broken: frozenset[str] = frozenset()) -> None:
        self._limits = limits
        self._broken = broken

    def start(self) -> History:
        """A new Redis, and tasks that nobody has claimed yet."""
        nothing = (0,) * self._limits.tasks
        return History(Stored(nothing, nothing), given=((),) * self._limits.tasks)

    def steps(self, state: History) -> Iterator[tuple[str, History]]:
        """Each thing that can happen next, in words, and what it leads to.

        Raises:
            Violation: one of them breaks a promise.
        """
        if state.writes < self._limits.writes:
            for task in range(self._limits.tasks):
                yield f"claim of task {task}", self._claim(state, task)
                if state.stored.holders[task]:
                    yield f"task {task} is parked or cancelled", self._take_away(state, task)
        if state.failovers < self._limits.failovers:
            for lost in range(len(state.past) + 1):
                for moment, gap in _MOMENTS.items():
                    for is_promoted in (True, False):
                        after = self._fail_over(state, lost, gap, is_promoted)
                        if not _is_known_gap(state, after):
                            kind = "promotion" if is_promoted else "restart"
                            yield f"{kind} that loses {lost} writes{moment}", after

    def _claim(self, state: History, task: int) -> History:
        state, fence = self._next_fence(state, task)
        given = state.given[task]
        for claim, told in given:
            if told == fence:
                raise Violation(f"I5: fence {fence} is given to claim {claim} and to a later one")
            if told > fence:
                raise Violation(f"I5: claim under fence {fence} after {told}")
        claim = state.writes
        state = state._replace(given=_with(state.given, task, (*given, (claim, fence))))
        return _written(state, task, fence, claim)

    def _take_away(self, state: History, task: int) -> History:
        """The fence rises, and nobody is given it."""
        state, fence = self._next_fence(state, task)
        if any(told == fence for _, told in state.given[task]):
            raise Violation("I6: the word of a worker that is not the owner counts")
        return _written(state, task, fence, 0)

    def _next_fence(self, state: History, task: int) -> tuple[History, int]:
        """The fence, and the state with what is noted beside it."""
        state = state._replace(
            past=(*state.past, state.stored)[-self._limits.lost :],
            writes=state.writes + 1,
            time=state.time + 1,
            clock=state.clock + 1,
        )
        fence = state.stored.fences[task] + 1
        if "no floor after a failover" in self._broken:
            return state, fence
        if state.stored.noted != state.history:
            floor = self._new_floor(state)
            stored = state.stored._replace(noted=state.history, floor=floor)
            state = state._replace(stored=stored, noted=state.history, floors=max(state.floors, floor))
        return state, max(fence, state.stored.floor)

    def _new_floor(self, state: History) -> int:
        tells_of_another = state.is_promoted and "a promotion looks like a new Redis" not in self._broken
        if not (state.stored.noted or tells_of_another):
            return 0
        if "floors are counted" in self._broken:
            return state.stored.floor + _BEYOND
        if "floors follow the clock alone" in self._broken:
            return state.clock
        return max(state.clock, state.stored.floor + _BEYOND)

    def _fail_over(self, state: History, lost: int, gap: int, is_promoted: bool) -> History:
        time = state.time + max(gap, 1)
        return state._replace(
            stored=state.past[-lost] if lost else state.stored,
            past=state.past[:-lost] if lost else state.past,
            history=state.history + 1,
            is_promoted=is_promoted,
            time=time,
            clock=min(time, state.time + gap),
            failovers=state.failovers + 1,
        )


def _is_known_gap(before: History, after: History) -> bool:
    """A restart without a note, though there was one; or the last note is lost, and the clock is not beyond it."""
    if not after.stored.noted and any(before.given) and not after.is_promoted:
        return True
    return after.stored.noted != before.noted and after.clock <= before.floors


def _written(state: History, task: int, fence: int, claim: int) -> History:
    stored = state.stored
    fences, holders = _with(stored.fences, task, fence), _with(stored.holders, task, claim)
    return state._replace(stored=stored._replace(fences=fences, holders=holders))


def _with(items: tuple[T, ...], at: int, item: T) -> tuple[T, ...]:
    return (*items[:at], item, *items[at + 1 :])
