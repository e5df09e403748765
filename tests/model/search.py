"""Breadth first through every state a protocol can reach: the first violation found has the shortest history."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from tests.model.failovers import Failovers, History
from tests.model.protocol import Protocol, State, Violation

__all__ = ["Findings", "search"]


@dataclass
class Findings:
    """What the search saw."""

    states: int = 0
    steps: int = 0
    violation: str = ""
    """Empty when everything was looked at and nothing is broken."""
    history: list[str] = field(default_factory=list)
    """What happened before, from the creation on."""


def search(model: Protocol | Failovers) -> Findings:
    """Every reachable state within the model's bounds, or the nearest violation."""
    first: Any = model.start()
    came_from: dict[Any, tuple[Any, str] | None] = {first: None}
    ahead = deque([first])
    found = Findings()
    while ahead:
        state = ahead.popleft()
        try:
            for what, following in model.steps(state):
                found.steps += 1
                if following not in came_from:
                    came_from[following] = (state, what)
                    ahead.append(following)
        except Violation as violation:
            found.violation, found.history = str(violation), _history(came_from, state)
            break
    found.states = len(came_from)
    return found


def _history(came_from: dict[Any, tuple[Any, str] | None], state: State | History) -> list[str]:
    history: list[str] = []
    while (step := came_from[state]) is not None:
        state, what = step
        history.append(what)
    return history[::-1]
