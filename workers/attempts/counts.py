"""Counts what becomes of a worker's attempts, by tool, for the figures that `store/metrics/` keeps."""

from collections.abc import Callable
from typing import assert_never

from taskmill.store.claims.claims import Claimed
from taskmill.store.metrics.counts import Counted, TaskCounts
from taskmill.workers.attempts.endings import Ending, Finish, Park, Release, kind_of

__all__ = ["AttemptCounts"]

_NO_FAILURE = frozenset({"completed", "tool_error", "refused"})
"""Kinds of endings that the tool itself decided."""
_RETRIES = {"crashed": "crashed", "timed_out": "timeout", "asked_again": "asked_again"}
"""Reasons of a release that begins another attempt on the tool's account, in the words of the final failure."""


class AttemptCounts:
    """Of one worker; event loop only."""

    def __init__(self, counts: TaskCounts, queue_of: Callable[[str], str]) -> None:
        """`queue_of`: the queue of a tool as Redis has it."""
        self._counts = counts
        self._queue_of = queue_of

    def started(self, claimed: Claimed) -> None:
        """A worker begins an attempt."""
        tool, queue = claimed.tool, self._queue_of(claimed.tool)
        self._counts.add(Counted.STARTED, queue, tool)
        if claimed.is_rescue:
            self._counts.add(Counted.RESCUED, queue, tool)
        if claimed.waited_ms is not None:
            self._counts.observe(Counted.WAITED, queue, tool, claimed.waited_ms / 1000)

    def asked(self, tool: str, questions: int) -> None:
        """A tool has asked its client."""
        self._counts.add(Counted.ASKED, self._queue_of(tool), tool, times=questions)

    def ended(self, ending: Ending) -> None:
        """The store has taken the ending of an attempt."""
        tool = ending.task.tool
        queue = self._queue_of(tool)
        match ending:
            case Finish():
                self._counts.observe(Counted.RAN, queue, tool, ending.seconds)
                kind = kind_of(ending)
                if kind not in _NO_FAILURE:
                    self._counts.add(Counted.FAILED, queue, tool, kind)
            case Release():
                reason = _RETRIES.get(ending.reason)
                if reason is None:
                    return  # nothing that the tool did: its worker drains, has not the tool, or not the key
                self._counts.add(Counted.RETRIED, queue, tool, reason)
                if reason != "asked_again":
                    self._counts.add(Counted.FAILED, queue, tool, reason)
                if ending.error is not None and ending.error.seconds is not None:
                    self._counts.observe(Counted.RAN, queue, tool, ending.error.seconds)
            case Park():
                return
            case _:
                assert_never(ending)
