"""The record of one task, and the view of it that a reader gets.

Frozen: a change makes a new record (`lifecycle.py` says which). What a protocol shows of it is made in `server/`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from taskmill.engine.outcome import Outcome
from taskmill.engine.status import TERMINAL, Status

__all__ = ["Lane", "NewTask", "Progress", "TaskRecord", "TaskView", "moment"]


def moment(ms: int) -> datetime:
    """Milliseconds since 1970 as an aware UTC datetime."""
    return datetime.fromtimestamp(ms / 1000, UTC)


@dataclass(frozen=True, slots=True)
class Progress:
    """The last thing a tool said about how far it is."""

    done: float | None = None
    total: float | None = None
    message: str | None = None

    @property
    def percent(self) -> int | None:
        """Whole percent done, None while the tool has not said of how much."""
        if self.done is None or not self.total or self.total <= 0:
            return None
        return int(max(0.0, min(100.0, 100 * self.done / self.total)))


@dataclass(frozen=True, slots=True)
class Lane:
    """What tasks with the same concurrency key share: so many at once, so many starts in a while."""

    key: str
    """The same for all tasks of the lane; a digest, for a key may hold anything."""
    limit: int
    """How many may run; without a limit of their own, how many may be about to start."""
    rate: tuple[int, int] | None = None
    """So many starts in so many milliseconds, None = any."""
    is_left_at_start: bool = False
    """Whether only starts count, and not what runs."""


@dataclass(frozen=True, slots=True)
class NewTask:
    """What is known of a task when it is created."""

    id: str
    tool: str
    principal: str
    """Owner: a digest, or `anonymous`."""
    payload: bytes
    """Arguments and call context as JSON, possibly sealed."""
    queue: str = "default"
    retention: timedelta = timedelta(hours=24)
    """How long the ended task can still be read."""
    poll_interval: timedelta = timedelta(seconds=1)
    """How often a client is advised to ask."""
    retries: int = 0
    """How often a failed attempt may be tried again."""
    deadline: timedelta | None = None
    """How long after its creation it must have ended; None = no limit."""
    idempotency: str | None = None
    """A second task of the same owner with this key is answered with the first one, unless that failed."""
    priority: int = 0
    """Higher is sooner."""
    lane: Lane | None = None
    """None = it waits for no other task."""
    idempotency_of: str = ""
    """Digest of what the key stands for: the same key with another digest is refused; empty = never."""
    listed_for: str = ""
    """Who may list it besides operators: a principal, or `session:<id>`; empty = nobody."""
    rerun_of: str | None = None
    """The ended task that this one repeats."""


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """Everything kept of a task but its arguments, questions and result."""

    id: str
    tool: str
    queue: str
    principal: str
    status: Status
    created_ms: int
    updated_ms: int
    """Moves only when something a reader can see has changed; never back."""
    seq: int
    """Number of the last event."""
    fence: int = 0
    """Rises with every claim, park and cancel; only its holder may write."""
    attempt: int = 0
    """How often a worker has started it."""
    crashes: int = 0
    """How often its worker died."""
    failures: int = 0
    """How often an attempt failed and was retried."""
    retries: int = 0
    """How often that may be."""
    deadline_ms: int | None = None
    """When it fails if it has not ended."""
    worker: str | None = None
    started_ms: int | None = None
    ended_ms: int | None = None
    due_ms: int | None = None
    """When a released task may run again."""
    reason: str | None = None
    """Why it was released, cancelled or given up; `tool_error` when its tool returned an error,
    `crashed` when it raised one for the last time."""
    rerun_of: str | None = None
    """The ended task that this one repeats."""
    progress: Progress = field(default_factory=Progress)
    questions: int = 0
    """Open questions."""
    retention_ms: int = 0
    poll_ms: int = 0
    priority: int = 0
    lane: str | None = None
    """Key of its lane, None = it is in none."""
    lane_limit: int | None = None
    """How many tasks of the lane may run."""
    rate: str | None = None
    """Starts of the lane: `n/ms`, or `n/ms/start` where nothing else counts."""

    @property
    def is_terminal(self) -> bool:
        """True once nothing can change any more."""
        return self.status in TERMINAL

    @property
    def ttl_ms(self) -> int | None:
        """Milliseconds from creation until the task can no longer be read; None while it lives (it cannot expire)."""
        return None if self.ended_ms is None else self.ended_ms - self.created_ms + self.retention_ms


@dataclass(frozen=True, slots=True)
class TaskView:
    """One consistent reading of a task: the record and what belongs to its state."""

    record: TaskRecord
    outcome: Outcome | None = None
    """Set on completed and failed tasks."""
    questions: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """Open questions by key, in the order they were asked."""
    ahead: int | None = None
    """How many tasks are queued before this one; None unless it is pending."""
    wait_ms: int | None = field(default=None, compare=False)
    """How long a queued task will wait, as far as its queue's workers can tell; None = not known."""
    is_served: bool = field(default=True, compare=False)
    """False for a queued task whose queue no live worker serves."""
    rerun_as: str | None = None
    """The last task that repeats this one."""
