"""What an author decides about a task tool: `TaskConfig`, checked when the tool is declared.

Only decisions and their arithmetic; who obeys them is in `workers/` and `server/`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from windlass.engine.errors import PolicyError
from windlass.engine.key import KeySource, arguments_of, check_arguments, check_source

__all__ = ["FROM_META", "Duration", "TaskConfig", "as_timedelta"]

Duration = timedelta | float | int
"""A timedelta, or seconds."""

FROM_META = "_meta"
"""As `idempotency`: the client names the key, in the request's `_meta`."""

_LONGEST_BACKOFF = timedelta(hours=1)
_QUEUE_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


def as_timedelta(value: Duration, *, what: str) -> timedelta:
    """`value` as a timedelta.

    Raises:
        PolicyError: not a number of seconds, not finite, or negative; the message starts with `what`.
    """
    if isinstance(value, bool) or not isinstance(value, timedelta | int | float):
        raise PolicyError(f"{what} must be a timedelta or a number of seconds, not {value!r}")
    try:
        duration = value if isinstance(value, timedelta) else timedelta(seconds=value)
    except (ValueError, OverflowError) as exc:
        raise PolicyError(f"{what} must be a finite number of seconds, not {value!r}") from exc
    if duration < timedelta(0):
        raise PolicyError(f"{what} must not be negative, got {value!r}")
    return duration


def _is_scope(name: object) -> bool:
    """RFC 6749, 3.3: printable ASCII but blank, quotes and backslash."""
    return isinstance(name, str) and name != "" and all("!" <= one <= "~" and one not in '"\\' for one in name)


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskConfig:
    """The policy of one task tool. `task=True` is `TaskConfig()`.

    Raises:
        PolicyError: a value that cannot work, or two that contradict each other.
    """

    mode: Literal["optional", "required"] = "optional"
    """`required`: clients that cannot follow a task are refused; `optional`: they wait for the result."""
    timeout: Duration | None = None
    """Longest run of one attempt; None = no limit."""
    retries: int = 0
    """How often a crashed or timed-out attempt is tried again. A `ToolError` or `MCPError` is an answer: never."""
    backoff: Duration = 2
    """Wait before the first retry; doubled each time, at most an hour."""
    retention: Duration = timedelta(hours=24)
    """How long the result stays readable after the end."""
    poll_interval: Duration = 1
    """How often clients are advised to ask."""
    park_after: Duration | None = 5
    """How long a task that waits for an answer stays in its worker's memory; None = until it is answered."""
    queue: str = "default"
    """Name of the queue; workers serve the queue they are started for."""
    scopes: Sequence[str] = ()
    """Scopes that the caller's access token must have, all of them."""
    idempotency: KeySource | None = None
    """What makes two calls of one caller the same call: the second is answered with the first one's task. A template
    of arguments, their names, a function of them, or `"_meta"`: the client says."""
    handoff_after: Duration | None = None
    """When a call of a client with a call timeout is handed off; None = by what is known of its host."""

    def __post_init__(self) -> None:
        if self.mode not in ("optional", "required"):
            raise PolicyError(f"mode must be 'optional' or 'required', not {self.mode!r}")
        if isinstance(self.retries, bool) or not isinstance(self.retries, int) or self.retries < 0:
            raise PolicyError(f"retries must be a whole number from 0, not {self.retries!r}")
        if self.timeout is not None and as_timedelta(self.timeout, what="timeout") == timedelta(0):
            raise PolicyError("timeout=0 would end every run before it starts; use None for no limit")
        if as_timedelta(self.retention, what="retention") < timedelta(seconds=1):
            raise PolicyError("retention under a second would drop the result before anybody can read it")
        if as_timedelta(self.poll_interval, what="poll_interval") < timedelta(milliseconds=1):
            raise PolicyError("poll_interval must be at least a millisecond")
        as_timedelta(self.backoff, what="backoff")
        if self.park_after is not None:
            as_timedelta(self.park_after, what="park_after")
        if self.handoff_after is not None and as_timedelta(self.handoff_after, what="handoff_after") == timedelta(0):
            raise PolicyError("handoff_after=0 would hand every call off before it starts; use None for the usual time")
        if not self.queue or len(self.queue) > 64 or not set(self.queue) <= _QUEUE_LETTERS:
            raise PolicyError(f"queue must be 1 to 64 letters, digits, '_', '.' or '-', not {self.queue!r}")
        if isinstance(self.scopes, str) or not all(_is_scope(scope) for scope in self.scopes):
            raise PolicyError(f"scopes must be a list of names without blanks or quotes, not {self.scopes!r}")
        if self.idempotency is not None:
            check_source(self.idempotency, what="idempotency")
            if isinstance(self.idempotency, str) and self.idempotency != FROM_META:
                self._refuse_constant(self.idempotency)

    def check_against(self, arguments: Sequence[str]) -> None:
        """Refuse what does not fit a tool with these arguments.

        Raises:
            PolicyError: a key is made of an argument the tool does not have.
        """
        if self.idempotency is not None and self.idempotency != FROM_META:
            check_arguments(self.idempotency, arguments, what="idempotency")

    @staticmethod
    def _refuse_constant(template: str) -> None:
        if not arguments_of(template):
            raise PolicyError(
                f"idempotency={template!r} would be the same for every call; write argument names in braces, "
                f"or {FROM_META!r} for the client's key"
            )

    @property
    def run_limit(self) -> timedelta | None:
        """Longest run of one attempt, None = no limit."""
        return None if self.timeout is None else as_timedelta(self.timeout, what="timeout")

    @property
    def parked_after(self) -> timedelta | None:
        """How long a task that waits stays in memory, None = until it is answered."""
        return None if self.park_after is None else as_timedelta(self.park_after, what="park_after")

    @property
    def kept_for(self) -> timedelta:
        """How long the ended task can still be read."""
        return as_timedelta(self.retention, what="retention")

    @property
    def polled_every(self) -> timedelta:
        """How often a client is advised to ask."""
        return as_timedelta(self.poll_interval, what="poll_interval")

    def retry_delay(self, failures: int) -> timedelta | None:
        """Wait before the next attempt after `failures` failed ones (from 1); None = give up."""
        if failures > self.retries:
            return None
        first = min(_LONGEST_BACKOFF, as_timedelta(self.backoff, what="backoff"))
        doubled: timedelta = first * float(2 ** min(failures - 1, 20))
        return min(_LONGEST_BACKOFF, doubled)
