"""The record of one task, and the view of it that a reader gets.

Frozen: a change makes a new record (`lifecycle.py` says how). `server/` decides what a protocol shows of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from taskmill.engine.events import AttemptError
from taskmill.engine.outcome import Outcome, OutcomeKind
from taskmill.engine.principal import PrincipalLimits
from taskmill.engine.status import TERMINAL, Status

__all__ = ["Firing", "Lane", "NewTask", "Progress", "TaskRecord", "TaskView"]


@dataclass(frozen=True, slots=True)
class Progress:
    """The last progress that a tool reported."""

    done: float | None = None
    total: float | None = None
    message: str | None = None

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> "Progress":
        """The progress that an event of it reports."""
        return cls(facts.get("done"), facts.get("total"), facts.get("message"))

    @property
    def percent(self) -> int | None:
        """Whole percent done; None while the tool has reported no total."""
        if self.done is None or not self.total or self.total <= 0:
            return None
        return int(max(0.0, min(100.0, 100 * self.done / self.total)))


@dataclass(frozen=True, slots=True)
class Lane:
    """What tasks with the same concurrency key share: a limit of running tasks, and a limit of starts in a period."""

    key: str
    """The same for all tasks of the lane; a digest, because an author's key may contain anything."""
    limit: int
    """How many may run; where only a rate is given, how many may be about to start."""
    rate: tuple[int, int] | None = None
    """(starts, milliseconds): at most so many starts in any such period; None = no limit."""
    is_left_at_start: bool = False
    """Whether only starts are limited, not running tasks."""


@dataclass(frozen=True, slots=True)
class Firing:
    """One of the times at which a tool with a schedule runs. It makes one task, whichever worker is first."""

    name: str
    """Of the schedule: `<app>/<tool>`."""
    at_ms: int
    schedule: str
    """Which schedule it is of, as `Schedule.as_json` has it."""


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
    """How often a client is advised to poll."""
    retries: int = 0
    """How often a failed attempt may be tried again."""
    deadline: timedelta | None = None
    """How long after its creation it must have ended; None = no limit."""
    not_before_ms: int | None = None
    """Before when it may not start, by the store's clock; None or a time in the past = it may start at once."""
    idempotency: str | None = None
    """A second task of the same owner with this key is answered with the first one, unless that failed."""
    priority: int = 0
    """Higher is sooner."""
    lane: Lane | None = None
    """None = it is in no lane."""
    idempotency_of: str = ""
    """Digest of the call that the key belongs to: the same key with another digest is refused; empty = not checked."""
    listed_for: str = ""
    """Who may list it besides operators: a principal, or `session:<id>`; empty = no one."""
    rerun_of: str | None = None
    """The ended task that this one repeats."""
    from_own_queue: bool = False
    """Whether a task of the same queue has called it, and may wait for it. It is not stored."""
    client: str = "other"
    """What created it, in a word for counts: a class of clients, `rerun`, `schedule`, or `other`. It is not stored."""
    client_name: str = ""
    """The program that called, as it names itself; empty = it gave no name, or no client called."""
    firing: Firing | None = None
    """The firing that it is made for; None = it was called."""
    limits: PrincipalLimits | None = None
    """Limits of its owner; None = those that the settings have for all. They are not stored."""
    webhook: str = ""
    """The ends that are sent to its webhook, words of `OutcomeKind` with blanks between them; empty = it has none."""


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """Everything stored of a task except its arguments, questions and result."""

    id: str
    tool: str
    queue: str
    principal: str
    status: Status
    created_ms: int
    updated_ms: int
    """Changes only when something that a reader can see has changed; never goes back."""
    seq: int
    """Number of the last event."""
    fence: int = 0
    """Rises with every claim, park and cancel; only the holder of the latest may write."""
    attempt: int = 0
    """How often a worker has started it."""
    crashes: int = 0
    """How often its worker died."""
    drains: int = 0
    """How often a worker that was stopped gave it back."""
    failures: int = 0
    """How often an attempt failed and was retried."""
    retries: int = 0
    """How often a failed attempt may be tried again."""
    deadline_ms: int | None = None
    """When it fails, unless it has ended by then."""
    worker: str | None = None
    started_ms: int | None = None
    ended_ms: int | None = None
    due_ms: int | None = None
    """When a released task may run again."""
    not_before_ms: int | None = None
    """Before when it may not start; None = it was not delayed. It stays when the task has started."""
    reason: str | None = None
    """Why it was released, was cancelled or has failed; `tool_error` when its tool returned an error,
    `crashed` when it raised one and is not retried."""
    rerun_of: str | None = None
    """The ended task that this one repeats."""
    progress: Progress = field(default_factory=Progress)
    questions: int = 0
    """Open questions."""
    retention_ms: int = 0
    poll_ms: int = 0
    priority: int = 0
    lane: str | None = None
    """Key of its lane; None = it is in no lane."""
    lane_limit: int | None = None
    """How many tasks of the lane may run."""
    rate: str | None = None
    """Limit of starts of the lane: `n/ms`, or `n/ms/start` where only starts are limited."""
    client: str | None = field(default=None, compare=False)
    """The program that called, as it named itself, perhaps cut; None = not known, or not kept. No event has it."""

    @property
    def next_start_ms(self) -> int | None:
        """When a pending task may start, or run again; None = it may now, or it is not pending."""
        if self.status is not Status.PENDING:
            return None
        return self.due_ms if self.due_ms is not None or self.attempt else self.not_before_ms

    @property
    def is_terminal(self) -> bool:
        """True once nothing can change any more."""
        return self.status in TERMINAL

    @property
    def outcome_kind(self) -> OutcomeKind | None:
        """How it ended; None while it is open."""
        match self.status:
            case Status.COMPLETED:
                if not self.reason:
                    return OutcomeKind.SUCCEEDED
                return OutcomeKind.TOOL_ERROR if self.reason == OutcomeKind.TOOL_ERROR else OutcomeKind.CRASHED
            case Status.FAILED:
                return OutcomeKind.FAILED
            case Status.CANCELLED:
                return OutcomeKind.CANCELLED
            case _:
                return None

    @property
    def ttl_ms(self) -> int | None:
        """Milliseconds from creation until the task can no longer be read; None while it is open (it cannot expire)."""
        return None if self.ended_ms is None else self.ended_ms - self.created_ms + self.retention_ms


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task as it was at one time: the record, and what belongs to its state."""

    record: TaskRecord
    outcome: Outcome | None = None
    """Set on completed and failed tasks."""
    questions: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """Open questions by key, in the order they were asked."""
    ahead: int | None = None
    """How many tasks are queued before this one; None unless it is pending."""
    wait_ms: int | None = field(default=None, compare=False)
    """How long a queued task will wait, as far as its queue's workers know; None = not known."""
    is_served: bool = field(default=True, compare=False)
    """False for a queued task whose queue no live worker serves."""
    waits_for_caller: bool = field(default=False, compare=False)
    """True for a queued task that a task of its own queue has called, while no slot of the queue is free."""
    rerun_as: str | None = None
    """The latest task that repeats this one."""
    paused: str | None = field(default=None, compare=False)
    """`queue` or `tool`: what is paused, so that this pending task does not start; None = nothing is."""
    errors: Mapping[int, AttemptError] = field(default_factory=dict, compare=False)
    """Why attempts failed, by their numbers, as far as the settings let the task's owner see it."""
