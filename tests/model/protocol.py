"""The protocol of lease and fence, small enough to look at all of it: one task, some workers, a client, a clock.

A state is what the store holds of the task, and what each worker knows. Whoever was ever given a fence may say anything
under it at any time and any number of times, however late and whatever it said before: that covers lost replies,
repeated calls, paused and dead workers alike, and more than any worker does. Time is one step: whatever lease or delay
there is has run out.

The moves follow the scripts in store/lua, the legal ones are the engine's own table, and each `in self._broken` is a
fault that can be put in on purpose (`mutants.py`). What must hold is checked at every step and raises `Violation`.
"""

from collections.abc import Iterator
from typing import NamedTuple

from taskmill.engine.status import LEGAL_MOVES, Move, Status

__all__ = ["Bounds", "Protocol", "State", "Violation", "Worker"]

HELD = (Status.RUNNING, Status.INPUT_REQUIRED)


class Violation(Exception):
    """An invariant does not hold; the message begins with its name."""


class Bounds(NamedTuple):
    """How much is looked at."""

    workers: int = 3
    claims: int = 4
    """How often the task may be claimed: fences go up to this, and one more for a cancel."""
    crash_limit: int = 2


class Worker(NamedTuple):
    """Workers are alike but for this, so states that differ in their names only are one."""

    holds: bool = False
    """The record names it."""
    waits: bool = False
    """It has said a claim and has no reply."""
    turn: bool = False
    """The store remembers what that claim took."""
    told: bool = False
    """It was given the last fence there is."""


class State(NamedTuple):
    """The task in the store, and everybody's knowledge of it."""

    status: Status = Status.PENDING
    fence: int = 0
    crashes: int = 0
    queued: bool = True
    due: bool = True
    """Its place in the queue says that it may be taken."""
    leased: bool = False
    """A worker was promised the task for a time that has not run out: what `due` should be the opposite of."""
    claimed: bool = False
    """A claim that was neither released nor ended."""
    question: int = 0
    """0 not asked, 1 open, 2 answered."""
    outcome: tuple[int, Move] | None = None
    """Fence and kind of the stored result."""
    ended: bool = False
    """Its history has a last event."""
    cancel_told: bool = False
    """The client was told that the task is cancelled."""
    given: tuple[int, ...] = ()
    """The fences of all claims."""
    workers: tuple[Worker, ...] = ()


class Protocol:
    """Every step that can happen to a state. `broken`: the faults that are put in."""

    def __init__(self, bounds: Bounds, broken: frozenset[str] = frozenset()) -> None:
        self._bounds = bounds
        self._broken = broken

    def start(self) -> State:
        """A created task and idle workers."""
        return State(workers=(Worker(),) * self._bounds.workers)

    def steps(self, state: State) -> Iterator[tuple[str, State]]:
        """Each thing that can happen next, in words, and what it leads to.

        Raises:
            Violation: one of them breaks a promise.
        """
        yield from self._time(state)
        for at in range(len(state.workers)):
            if at == 0 or state.workers[at] != state.workers[at - 1]:
                yield from self._claims(state, at)
        for fence in state.given:
            yield from self._words(state, fence)
        yield from self._client(state)
        yield from self._others(state)

    # Time and the client.

    def _time(self, state: State) -> Iterator[tuple[str, State]]:
        if state.leased or not state.due:
            yield "time passes", state._replace(leased=False, due=True)
        for at, worker in enumerate(state.workers):
            if worker.turn:
                yield "a remembered turn expires", _with_worker(state, at, worker._replace(turn=False))

    def _client(self, state: State) -> Iterator[tuple[str, State]]:
        yield "cancel", self._cancel(state)
        if state.question:
            yield "answer", self._answer(state)

    def _cancel(self, state: State) -> State:
        if not self._may(Move.CANCEL, state.status) and "cancel ends what has ended" not in self._broken:
            return state
        fence = state.fence if "cancel without fence" in self._broken else state.fence + 1
        ended = self._end(state, Move.CANCEL, Status.CANCELLED, fence)
        return ended._replace(cancel_told=True)

    def _answer(self, state: State) -> State:
        unchecked = "answer without state check" in self._broken
        if state.question != 1 or not (unchecked or self._may(Move.ANSWER, state.status)):
            return state
        state = state._replace(question=2)
        if not (self._may(Move.RESUME, state.status) or "resume without state check" in self._broken):
            return self._event(state, Move.ANSWER)
        if self._parked(state) and "wake without queue" not in self._broken:
            woken = self._event(state, Move.WAKE)
            return woken._replace(status=Status.PENDING, queued=True, due=True)
        return self._event(state, Move.RESUME)._replace(status=Status.RUNNING)

    # Claims: a worker takes the task, and hears of it now, later, or never.

    def _claims(self, state: State, at: int) -> Iterator[tuple[str, State]]:
        worker = state.workers[at]
        if worker.waits and worker.turn:
            yield "claim said again", self._hand_over_again(state, at)
            return
        taken = self._take(state, at)
        if taken is None:
            if worker.waits:
                yield "claim said again, nothing due", _with_worker(state, at, worker._replace(waits=False))
            return
        if taken.given == state.given:
            yield "claim, and nothing to run", taken
            return
        at = next(i for i, each in enumerate(taken.workers) if each.holds)
        worker = taken.workers[at]
        yield "claim", self._told(taken, at)
        yield "claim, reply lost", _with_worker(taken, at, worker._replace(waits=True, turn=True))
        yield "claim, an old call", _with_worker(taken, at, worker._replace(turn=False))

    def _hand_over_again(self, state: State, at: int) -> State:
        worker = state.workers[at]
        mine = worker.holds or "turn without owner" in self._broken
        if mine and state.status in HELD:
            return self._told(state, at)
        return _with_worker(state, at, worker._replace(waits=False))

    def _told(self, state: State, at: int) -> State:
        """The worker learns its fence."""
        if any(each.told for i, each in enumerate(state.workers) if i != at):
            raise Violation("I7: two workers were given the same fence")
        return _with_worker(state, at, state.workers[at]._replace(waits=False, turn=False, told=True))

    def _take(self, state: State, at: int) -> State | None:
        """The claim of one worker; None when there is nothing to take."""
        if not (state.queued and state.due) or len(state.given) == self._bounds.claims:
            return None
        if self._parked(state):
            return state._replace(due=False)
        lapsed = self._may(Move.RECLAIM, state.status)
        if not (lapsed or self._may(Move.CLAIM, state.status) or "claim without state check" in self._broken):
            return state._replace(queued=False)
        crashes = state.crashes + lapsed
        if crashes > self._bounds.crash_limit:
            return self._end(state._replace(crashes=crashes), Move.FAIL, Status.FAILED, None)
        move = Move.RECLAIM if lapsed else Move.CLAIM
        if move is Move.RECLAIM and state.leased:
            raise Violation("I7: taken from a worker whose lease has not run out")
        fence = state.fence if "claim without fence" in self._broken else state.fence + 1
        state = self._event(state, move, fence)
        workers = tuple(worker._replace(holds=i == at, told=False) for i, worker in enumerate(state.workers))
        moved = state._replace(
            status=Status.RUNNING,
            fence=fence,
            crashes=crashes,
            due="no lease move" in self._broken,
            leased=True,
            claimed=True,
            given=(*state.given, fence),
        )
        return _canonical(moved, workers)

    # What is said under a fence that was once given out.

    def _words(self, state: State, fence: int) -> Iterator[tuple[str, State]]:
        yield f"renew under {fence}", self._renew(state, fence)
        yield f"progress under {fence}", self._progress(state, fence)
        yield f"ask under {fence}", self._ask(state, fence)
        yield f"release under {fence}", self._release(state, fence)
        yield f"park under {fence}", self._park(state, fence)
        for kind in (Move.COMPLETE, Move.FAIL):
            yield f"{kind} under {fence}", self._finish(state, fence, kind)

    def _holds(self, state: State, fence: int, move: Move, call: str) -> bool:
        faults = {"no fence check", f"{call} without fence check"}, {"no state check", f"{call} without state check"}
        mine = fence == state.fence or not self._broken.isdisjoint(faults[0])
        return mine and (self._may(move, state.status) or not self._broken.isdisjoint(faults[1]))

    def _renew(self, state: State, fence: int) -> State:
        if not self._holds(state, fence, Move.PROGRESS, "renew"):
            self._check_lost(state, fence)
            return state
        self._check_kept(state, fence)
        due = state.due if "renew moves no lease" in self._broken else False
        return state._replace(queued=True, due=due, leased=True)

    def _progress(self, state: State, fence: int) -> State:
        if not self._holds(state, fence, Move.PROGRESS, "progress"):
            self._check_lost(state, fence)
            return state
        self._check_kept(state, fence)
        return self._event(state, Move.PROGRESS)

    def _ask(self, state: State, fence: int) -> State:
        if not self._holds(state, fence, Move.ASK, "ask"):
            self._check_lost(state, fence)
            return state
        self._check_kept(state, fence)
        if state.question == 2 or (state.question == 1 and state.status is Status.INPUT_REQUIRED):
            return state
        return self._event(state, Move.ASK)._replace(status=Status.INPUT_REQUIRED, question=1)

    def _release(self, state: State, fence: int) -> State:
        if not self._holds(state, fence, Move.RELEASE, "release"):
            self._check_lost(state, fence)
            return state
        self._check_kept(state, fence)
        state = self._event(state, Move.RELEASE)
        workers = tuple(worker._replace(holds=False) for worker in state.workers)
        freed = state._replace(status=Status.PENDING, queued=True, due=False, leased=False, claimed=False)
        return _canonical(freed, workers)

    def _park(self, state: State, fence: int) -> State:
        if not self._holds(state, fence, Move.PARK, "park"):
            return self._release(state, fence)
        self._check_kept(state, fence)
        after = state.fence if "park without fence" in self._broken else state.fence + 1
        state = self._event(state, Move.PARK, after)
        workers = tuple(worker._replace(holds=False) for worker in state.workers)
        due = "park leaves its place" in self._broken
        return _canonical(state._replace(fence=after, queued=True, due=due, leased=False, claimed=False), workers)

    def _finish(self, state: State, fence: int, kind: Move) -> State:
        if self._holds(state, fence, kind, "finish"):
            if state.given[-1] != fence:
                raise Violation("I6: a result under a fence that is not the last claimed")
            ended = self._end(state, kind, LEGAL_MOVES[kind][1] or state.status, None)
            return ended._replace(outcome=(fence, kind))
        same = state.outcome == (fence, kind)
        if "finish without idempotence" in self._broken:
            already = False
        elif "already without fence" in self._broken:
            already = state.outcome is not None and state.outcome[1] is kind
        elif "already without outcome" in self._broken:
            already = state.fence == fence and state.ended
        else:
            already = state.fence == fence and same
        if already != same:
            raise Violation(f"R: a worker is told {'already' if already else 'lost'} and that is not so")
        return state

    # What others do to the queue, and the repair.

    def _others(self, state: State) -> Iterator[tuple[str, State]]:
        if state.queued:
            yield "somebody takes it from the queue", state._replace(queued=False)
        elif state.ended:
            yield "somebody puts it into the queue", state._replace(queued=True, due=True)
        elif self._may(Move.CANCEL, state.status):
            idle = state.status is Status.PENDING or "reconcile makes running tasks due" in self._broken
            yield "reconcile", state._replace(queued=True, due=idle)

    # What every move does, and what must hold.

    def _may(self, move: Move, status: Status) -> bool:
        return status in LEGAL_MOVES[move][0]

    def _parked(self, state: State) -> bool:
        return self._may(Move.WAKE, state.status) and not any(worker.holds for worker in state.workers)

    def _end(self, state: State, move: Move, status: Status, fence: int | None) -> State:
        state = self._event(state, move, fence)
        workers = tuple(worker._replace(holds=False) for worker in state.workers)
        ended = state._replace(
            status=status,
            fence=state.fence if fence is None else fence,
            ended=True,
            queued=False,
            leased=False,
            claimed=False,
            question=0,
        )
        return _canonical(ended, workers)

    def _event(self, state: State, move: Move, fence: int | None = None) -> State:
        """An event is written: its history must allow it."""
        if state.cancel_told:
            raise Violation(f"I8: {move} after the client was told that the task is cancelled")
        if state.ended:
            raise Violation(f"I3: {move} after the last event")
        if not self._may(move, state.status):
            raise Violation(f"I4: {move} from {state.status}")
        if fence is not None and fence <= state.fence:
            raise Violation(f"I5: {move} under fence {fence} after {state.fence}")
        if move is Move.CLAIM and state.claimed:
            raise Violation("I7: a claim of what is claimed")
        return state

    def _check_lost(self, state: State, fence: int) -> None:
        if fence == state.fence and state.status in HELD:
            raise Violation("R: the owner is told that it has lost the task")

    def _check_kept(self, state: State, fence: int) -> None:
        if state.status not in HELD or fence != state.fence:
            raise Violation("I6: the word of a worker that is not the owner counts")


def _canonical(state: State, workers: tuple[Worker, ...]) -> State:
    return state._replace(workers=tuple(sorted(workers)))


def _with_worker(state: State, at: int, worker: Worker) -> State:
    return _canonical(state, (*state.workers[:at], worker, *state.workers[at + 1 :]))
