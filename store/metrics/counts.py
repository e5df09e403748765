"""What one process has counted of its tasks, by tool, until it is added to the figures in Redis (`writer.py`).

Counting is a few additions in memory: nothing here talks to Redis.
"""

from bisect import bisect_left
from collections import Counter
from enum import StrEnum

__all__ = ["BUCKETS", "Counted", "TaskCounts"]

BUCKETS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)
"""Upper bounds of the buckets of waiting and run time, in seconds; above the last there is one more."""


class Counted(StrEnum):
    """What is counted. The words are stored."""

    CREATED = "created"
    """Tasks, by the class of the client that called."""
    STARTED = "started"
    """Attempts that a worker began."""
    FAILED = "failed"
    """Attempts that raised, or ran too long, or whose process died, by which of these."""
    RETRIED = "retried"
    """Attempts that another one follows, because they failed or asked for it, by why."""
    RESCUED = "rescued"
    """Attempts that took over from a worker whose lease had lapsed."""
    ASKED = "asked"
    """Questions to clients."""
    HANDED_OFF = "handed_off"
    """Calls of clients without tasks that were answered with a task to follow, by client."""
    WAITED = "waited"
    """Attempts, by the bucket of how long the task had waited for a worker."""
    WAITED_MS = "waited_ms"
    """The sum of these times."""
    RAN = "ran"
    """Attempts, by the bucket of how long they ran."""
    RAN_MS = "ran_ms"
    """The sum of these times."""


_SUMS = {Counted.WAITED: Counted.WAITED_MS, Counted.RAN: Counted.RAN_MS}
_NO_LABEL = "-"

Row = tuple[Counted, str, str, str]
"""What, queue as Redis has it, label, tool."""


class TaskCounts:
    """Counts that have not been added to the figures in Redis yet. For one thread."""

    def __init__(self) -> None:
        self._rows: Counter[Row] = Counter()

    def add(self, what: Counted, queue: str, tool: str, label: str = _NO_LABEL, *, times: int = 1) -> None:
        """Count something of a tool. `queue`: as Redis has it; `label`: one of few words."""
        self._rows[what, queue, label, tool] += times

    def observe(self, what: Counted, queue: str, tool: str, seconds: float) -> None:
        """Count a length of time, `WAITED` or `RAN`."""
        self._rows[what, queue, str(bisect_left(BUCKETS, seconds)), tool] += 1
        self._rows[_SUMS[what], queue, _NO_LABEL, tool] += round(seconds * 1000)

    def take(self) -> dict[Row, int]:
        """All that was counted since the last call."""
        rows, self._rows = self._rows, Counter()
        return dict(rows)
