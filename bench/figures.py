"""What the cases measure: figures with unit, direction and goal, and the medians of their rounds.

The goals are those of the design, as ratios against a peer of the same run wherever it names one.
"""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from bench.contenders import TASKMILL

__all__ = ["Figure", "Goal", "Medians", "Result", "against_goal"]

Medians = Mapping[tuple[str, str], float]
"""(figure, contender) -> median."""


@dataclass(frozen=True)
class Goal:
    """What the design asks for."""

    words: str
    limit: Callable[[Medians], float]
    """The value to reach, made of other figures of the run; KeyError where a peer was not measured."""
    otherwise: Callable[[Medians], str] = lambda _: ""
    """What lets a value short of it do all the same, in words; "" = nothing does."""


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    key: str
    title: str
    unit: str
    more_is_better: bool
    peers: tuple[str, ...] = ()
    """Whom ours is compared with: the best of them that was measured."""
    goal: Goal | None = None
    digits: int = 0


@dataclass(frozen=True)
class Result:
    """A figure, with what was measured."""

    figure: Figure
    rounds: Mapping[str, list[float]]
    """Contender -> one value a round."""
    goal: float | None
    """The goal on this machine, None if there is none or it cannot be known."""
    otherwise: str = ""
    """Why a value short of the goal would do all the same on this machine."""
    disturbance: str = ""
    """What disturbed the machine, in words: its goal is then not judged."""

    @property
    def medians(self) -> dict[str, float]:
        """Contender -> median."""
        return {name: statistics.median(values) for name, values in self.rounds.items()}

    @property
    def ratio(self) -> float | None:
        """Ours divided by the best peer's; None without a peer."""
        medians = self.medians
        measured = [medians[peer] for peer in self.figure.peers if peer in medians]
        best = (max if self.figure.more_is_better else min)(measured, default=None)
        return medians[TASKMILL.name] / best if best else None

    @property
    def is_met(self) -> bool | None:
        """Whether ours reaches the goal, or does all the same; None without one, or on a disturbed machine."""
        return None if self.goal is None or self.disturbance else self.is_reached or bool(self.otherwise)

    @property
    def is_reached(self) -> bool:
        """Whether ours reaches the goal itself."""
        if self.goal is None:
            return False
        ours = self.medians[TASKMILL.name]
        return ours >= self.goal if self.figure.more_is_better else ours <= self.goal

    @property
    def is_let_off(self) -> bool:
        """Whether ours does all the same, and only so."""
        return bool(self.is_met) and not self.is_reached


def against_goal(result: Result, medians: Medians) -> Result:
    """The result with the goal of this run, where its figure has one and whom it is measured against is there."""
    goal = result.figure.goal
    if goal is None:
        return result
    try:
        return replace(result, goal=goal.limit(medians), otherwise=goal.otherwise(medians))
    except KeyError:
        return result
