"""The states of a task and the one table of moves between them.

All other code asks this table: the pure lifecycle, and the store. Words of any protocol revision must not appear here.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

__all__ = ["LEGAL_MOVES", "TERMINAL", "Move", "Status"]


class Status(StrEnum):
    """The state of a task, in the words of the person who waits for it."""

    PENDING = "pending"
    """Queued: no worker has it (new, released, or waiting for its next attempt)."""
    RUNNING = "running"
    """A worker has its lease and runs the tool."""
    INPUT_REQUIRED = "input_required"
    """The tool asked a question and waits for the client's answer."""
    COMPLETED = "completed"
    """The tool returned a result (also one that reports an error)."""
    FAILED = "failed"
    """There is no result: a protocol error, a timeout, or too many worker crashes."""
    CANCELLED = "cancelled"
    """A client or an operator ended it."""


class Move(StrEnum):
    """What can happen to a task."""

    CREATE = "create"
    CLAIM = "claim"
    RECLAIM = "reclaim"
    """Claim of a task whose lease has expired: its worker is presumed dead."""
    PROGRESS = "progress"
    ASK = "ask"
    ANSWER = "answer"
    RESUME = "resume"
    """The last open question was answered."""
    PARK = "park"
    """The worker drops a task that only waits for answers from its memory."""
    WAKE = "wake"
    """The last open question of a parked task was answered: it goes back to the queue."""
    RELEASE = "release"
    COMPLETE = "complete"
    FAIL = "fail"
    OVERDUE = "overdue"
    """It had not ended by its deadline."""
    CANCEL = "cancel"


TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})
_OPEN = frozenset(Status) - TERMINAL
_HELD = frozenset({Status.RUNNING, Status.INPUT_REQUIRED})

LEGAL_MOVES: Mapping[Move, tuple[frozenset[Status], Status | None]] = MappingProxyType(
    {
        Move.CREATE: (frozenset(), Status.PENDING),
        Move.CLAIM: (frozenset({Status.PENDING}), Status.RUNNING),
        Move.RECLAIM: (_HELD, Status.RUNNING),
        Move.PROGRESS: (_HELD, None),
        Move.ASK: (_HELD, Status.INPUT_REQUIRED),
        Move.ANSWER: (_OPEN, None),
        Move.RESUME: (frozenset({Status.INPUT_REQUIRED}), Status.RUNNING),
        Move.PARK: (frozenset({Status.INPUT_REQUIRED}), None),
        Move.WAKE: (frozenset({Status.INPUT_REQUIRED}), Status.PENDING),
        Move.RELEASE: (_HELD, Status.PENDING),
        Move.COMPLETE: (_HELD, Status.COMPLETED),
        Move.FAIL: (_HELD, Status.FAILED),
        Move.OVERDUE: (_OPEN, Status.FAILED),
        Move.CANCEL: (_OPEN, Status.CANCELLED),
    }
)
"""move -> (states it may start from, state it leads to; None = the state stays)."""
