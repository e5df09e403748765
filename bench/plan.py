"""How much is measured: every count and every duration of a run is bounded, and comes from here."""

from dataclasses import dataclass

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """The size of a run."""

    rounds: int
    """How often each contender is measured, taking turns."""
    seconds: float
    """Length of one burst of calls, and of one drain at most twice that."""
    depth: int = 100_000
    """Tasks in the queue that counts as deep."""
    scale: float = 1.0
    """Multiplies every count and duration; for trying out the bench itself."""

    @property
    def burst(self) -> float:
        """Seconds of one burst of calls."""
        return self.seconds * self.scale

    def count(self, full: int, *, least: int = 5) -> int:
        """A number of tasks: `full` in a full run, in proportion to the seconds in a shorter one."""
        return max(least, int(full * self.scale * self.seconds / 3.0))
