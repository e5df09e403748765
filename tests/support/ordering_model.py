"""A line as the documents say it works, in plain Python: the oracle of `store/lua/ordering.lua`."""

from dataclasses import dataclass, field

__all__ = ["MOMENT", "OrderingModel"]

MOMENT = 1e12
"""Scores of a queue from here on are times."""
STEP = 1 / 1024
HEAD_START = 100


@dataclass
class OrderingModel:
    """Places in one line, fair between principals; lower is sooner."""

    served: float = 0
    latest: float = 0
    own: dict[tuple[str, int], float] = field(default_factory=dict)

    def place(self, principal: str, priority: int = 0, *, in_front: bool = False) -> float:
        """The next place."""
        latest = max(self.served, self.latest + STEP)
        first, own = latest - HEAD_START * priority, self.own.get((principal, priority), float("-inf"))
        at = first if in_front else max(first, own)
        if at == first:
            self.latest = latest
        if not in_front:
            self.own[principal, priority] = at + 2.0**-priority
        return at

    def move_on(self, at: float) -> None:
        """Somebody at this place was served."""
        self.served = max(self.served, at)

    def forget(self) -> None:
        """Nobody is left in line."""
        self.served, self.latest, self.own = 0, 0, {}
