"""The audit trail: what is recorded of who did what, and `record`, which any part of the program calls.

Where the records go is in `trail.py`; who sends a request is known to `server/audit/`, and who types a command to
`cli/tasks/`. A record never holds arguments, results, answers or tokens: it has no field for them.
"""

import re
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from taskmill.engine.errors import CallerError, QuotaExceeded, ScopeMissing, TaskNotFound, TooManySessions

__all__ = [
    "VERSION",
    "Action",
    "Actor",
    "ActorFacts",
    "ActorKind",
    "AuditRecord",
    "Outcome",
    "Reason",
    "acting_as",
    "current_actor",
    "leave_trail",
    "record",
    "record_refusal_of",
]

VERSION = 1
"""Of the fields of a record. Fields may be added under the same number; none changes its meaning or goes."""
_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_LONGEST = 200


class Action(StrEnum):
    """What was done, or refused. `docs/audit.md` has a row for each."""

    TASK_CREATED = "task.created"
    """A call of a tool became a task."""
    TASK_ATTACHED = "task.attached"
    """A call was given the task that an earlier one had made, by its idempotency key."""
    TASK_CANCELLED = "task.cancelled"
    """A task was cancelled."""
    TASK_RERUN = "task.rerun"
    """An ended task was run again; `task` is the new one, `target` the old one."""
    TASK_ANSWERED = "task.answered"
    """Questions of a task were answered."""
    TASK_READ = "task.read"
    """An operator saw a task, its result, its events, its output or an artifact of it."""
    TASK_ARGUMENTS_READ = "task.arguments_read"
    """An operator opened the arguments of a task."""
    TASKS_LISTED = "tasks.listed"
    """An operator saw a list of tasks of all callers."""
    TASKS_CANCELLED = "tasks.cancelled"
    """Many tasks were cancelled by one command; `count` says how many, `target` by which filter."""
    TASKS_RERUN = "tasks.rerun"
    """Many tasks were run again by one command; `count` says how many, `target` by which filter."""
    TOOL_CALLED = "tool.called"
    """A tool was called that makes no task."""
    ACCESS_REFUSED = "access.refused"
    """A request was refused; `reason` says why."""
    QUEUE_PAUSED = "queue.paused"
    """A queue, or a tool, was paused; `target` names it."""
    QUEUE_RESUMED = "queue.resumed"
    """A queue, or a tool, was resumed; `target` names it."""
    QUEUE_CHANGED = "queue.changed"
    """Another property of a queue was changed, such as its concurrency."""
    WORKER_DRAINED = "worker.drained"
    """A worker was asked to take no more tasks; `target` names it."""
    WORKER_CHANGED = "worker.changed"
    """Another property of a worker was changed, such as its concurrency."""
    WEBHOOK_RETRIED = "webhook.retried"
    """A webhook that was not delivered was to be tried again."""
    LOGGED_IN = "operator.logged_in"
    """An operator opened a session of the console."""
    LOGGED_OUT = "operator.logged_out"
    """An operator ended it."""
    AUDIT_READ = "audit.read"
    """The audit trail was read."""
    AUDIT_LOST = "audit.lost"
    """Records could not be written to this sink; `count` says how many."""


class Outcome(StrEnum):
    """How it ended."""

    OK = "ok"
    UNCHANGED = "unchanged"
    """It was permitted, and there was nothing to do: the task had ended."""
    FAILED = "failed"
    """It was permitted, and did not work."""
    REFUSED = "refused"


class Reason(StrEnum):
    """Why a request was refused."""

    NO_TOKEN = "no_token"  # noqa: S105  # a word, no secret
    BAD_TOKEN = "bad_token"  # noqa: S105
    """Forged, expired, foreign, or of no operator."""
    SCOPE_MISSING = "scope_missing"
    WRONG_ROLE = "wrong_role"
    """An operator without the role, or a user where an operator is needed."""
    UNKNOWN_TASK = "unknown_task"
    """A task that is unknown, expired, or another caller's: the caller does not learn which, and nor does the trail."""
    UNKNOWN_SESSION = "unknown_session"
    FOREIGN_HOST = "foreign_host"
    FOREIGN_ORIGIN = "foreign_origin"
    FOREIGN_FORM = "foreign_form"
    """A request that a form on another site's page could have made."""
    LIMIT = "limit"
    """More tasks, sessions or requests than this caller may have."""
    TOO_LARGE = "too_large"
    """A body or headers beyond the limit."""


class ActorKind(StrEnum):
    """Who acts."""

    USER = "user"
    OPERATOR = "operator"
    ANONYMOUS = "anonymous"
    """A caller without a token."""
    LOCAL = "local"
    """The user of this machine, whose host started the server over stdio."""
    SYSTEM = "system"
    """Taskmill itself."""


@dataclass(frozen=True, slots=True)
class ActorFacts:
    """What a record says of who acts."""

    kind: ActorKind
    who: str | None = None
    """Digest of a user, as tasks have it as their owner; name of an operator; None = there is no more to say."""
    roles: tuple[str, ...] = ()
    """Of an operator."""
    subject: str | None = None
    """Readable name of a user, only if the operator of the server wants it."""
    client: str | None = None
    """Client of a user's token, only if the operator of the server wants it."""
    address: str | None = None
    """Where it came from; of a command, the machine."""
    via: str | None = None
    """`http`, `stdio` or `cli`."""
    request: str | None = None
    """Common to all records of one request."""


class Actor(Protocol):
    """Who acts in the present context, and the trail that it leaves."""

    def facts(self) -> ActorFacts:
        """Who it is; asked at each record, because a request's token is checked after it has begun."""

    def leave(self, entry: "AuditRecord") -> None:
        """Write a record to the trail. It never waits and never fails."""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One line of the trail."""

    action: Action
    outcome: Outcome
    actor: ActorFacts
    reason: str | None = None
    task: str | None = None
    tool: str | None = None
    target: str | None = None
    """What else it was done to: a queue, a worker, an artifact, a filter."""
    count: int = 1
    """How often, within one second; or how many tasks, of a command for many."""
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    """Its own: a sink may have a record twice after an outage, under one id."""
    time: float = field(default_factory=time.time)
    """Seconds of the clock."""

    def to_json(self) -> dict[str, Any]:
        """The record as every sink has it: flat, in the order of `docs/audit.md`, with null for what there is not."""
        actor = self.actor
        whole, part = divmod(round(self.time * 1000), 1000)
        return {
            "v": VERSION,
            "id": self.id,
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{part:03}Z",
            "action": self.action.value,
            "outcome": self.outcome.value,
            "reason": self.reason,
            "actor": actor.kind.value,
            "who": actor.who,
            "roles": list(actor.roles),
            "subject": actor.subject,
            "client": actor.client,
            "address": actor.address,
            "via": actor.via,
            "task": self.task,
            "tool": self.tool,
            "target": self.target,
            "count": self.count,
            "request": actor.request,
        }


_actor: ContextVar[Actor | None] = ContextVar("taskmill_actor", default=None)


def current_actor() -> Actor | None:
    """Who acts in the present context; None = no trail is left."""
    return _actor.get()


@contextmanager
def acting_as(actor: Actor | None) -> Iterator[None]:
    """In the block, and in what it starts, this one acts."""
    reset = _actor.set(actor)
    try:
        yield
    finally:
        _actor.reset(reset)


def leave_trail(actor: Actor | None) -> None:
    """From now on this one acts in the present context; None = no trail is left any more."""
    _actor.set(actor)


def record(
    action: Action,
    *,
    outcome: Outcome = Outcome.OK,
    reason: str | None = None,
    task: str | None = None,
    tool: str | None = None,
    target: str | None = None,
    count: int = 1,
) -> None:
    """Record that the one who acts now did this; does nothing, at no cost, where there is no trail.

    `task`: an id, also one that a caller made up; what cannot be an id is left out. `target`: what else it was done to,
    such as the name of a queue. `count`: of a command for many tasks, how many.
    """
    actor = _actor.get()
    if actor is None:
        return
    known = task if task is not None and _ID.fullmatch(task) else None
    entry = AuditRecord(action, outcome, actor.facts(), _cut(reason), known, _cut(tool), _cut(target), count)
    actor.leave(entry)


_REASONS: Mapping[type[CallerError], Reason] = {
    TaskNotFound: Reason.UNKNOWN_TASK,
    ScopeMissing: Reason.SCOPE_MISSING,
    QuotaExceeded: Reason.LIMIT,
    TooManySessions: Reason.LIMIT,
}


def record_refusal_of(error: CallerError, *, tool: str | None = None) -> None:
    """Record that a request is refused with this error, if that is a matter of access; an error is recorded once."""
    if _actor.get() is None or error.facts.get("recorded"):
        return
    for kind, reason in _REASONS.items():
        if isinstance(error, kind):
            task = error.facts.get("task_id")
            error.facts["recorded"] = True
            found = tool or error.facts.get("tool")
            record(Action.ACCESS_REFUSED, outcome=Outcome.REFUSED, reason=reason, task=task, tool=found)
            return


def _cut(text: str | None) -> str | None:
    return text if text is None or len(text) <= _LONGEST else text[:_LONGEST] + "…"
