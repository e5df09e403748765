"""What an author decides about a task tool: `TaskConfig`, checked when the tool is declared.

Only decisions and their arithmetic; `workers/` and `server/` apply them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from taskmill.engine.errors import PolicyError
from taskmill.engine.key import KeySource, arguments_of, check_arguments, check_source
from taskmill.engine.record import Lane
from taskmill.engine.retrying import (
    Backoff,
    Duration,
    Retry,
    RetryOn,
    as_timedelta,
    check_backoff,
    check_retry_on,
    wait_before,
)
from taskmill.engine.timing.schedule import Schedule, as_schedule, check_scheduled, check_scheduled_arguments

__all__ = [
    "FROM_META",
    "LEAST_MEMORY",
    "LEAST_OPEN_FILES",
    "Duration",
    "Limits",
    "Reuse",
    "TaskConfig",
    "as_timedelta",
    "check_webhook_url",
]

FROM_META = "_meta"
"""As `idempotency`: the client names the key, in the request's `_meta`."""

Reuse = Literal["principal", "any", "never"]
"""Whose next task a process runs: the same caller's, anyone's, no one's."""

LEAST_MEMORY = 32 * 1024 * 1024
LEAST_OPEN_FILES = 32
"""What the interpreter and the server's own modules need."""
_LEAST = {"memory_limit": LEAST_MEMORY, "process_limit": 0, "open_file_limit": LEAST_OPEN_FILES, "file_size_limit": 1}
_WHAT = {
    "memory_limit": "a whole number of bytes from 32 MiB",
    "process_limit": "a whole number from 0",
    "open_file_limit": f"a whole number from {LEAST_OPEN_FILES}",
    "file_size_limit": "a whole number of bytes from 1",
}

_TOP_PRIORITY = 5
_MOST_STARTS = 10_000
_LONGEST_URL = 2048
_QUEUE_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


def _is_scope(name: object) -> bool:
    """RFC 6749, 3.3: printable ASCII without blank, quotes and backslash."""
    return isinstance(name, str) and name != "" and all("!" <= one <= "~" and one not in '"\\' for one in name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one attempt of an isolated tool may use, with all processes that it starts. None = no limit."""

    memory: int | None = None
    """Bytes, of all its processes together."""
    cpu: float | None = None
    """Seconds of processor time, of all its processes together."""
    processes: int | None = None
    """Processes beside its own, at the same time."""
    open_files: int | None = None
    """Open files of each process."""
    file_size: int | None = None
    """Bytes of each file that it writes."""

    def within(self, most: "Limits") -> "Limits":
        """These limits, each lowered to the one in `most`."""
        lowest = {}
        for one in fields(self):
            given = [value for value in (getattr(self, one.name), getattr(most, one.name)) if value is not None]
            lowest[one.name] = min(given, default=None)
        return Limits(**lowest)

    def exceeded_text(self, tool: str, limit: str) -> str:
        """What a caller reads when `tool` exceeded the limit of this name."""
        value = getattr(self, limit)
        match limit:
            case "memory":
                return f"{tool} used more memory than its limit of {value:,} bytes."
            case "cpu":
                return f"{tool} used more processor time than its limit of {value:g} s."
            case "processes":
                return f"{tool} ran more processes than its limit of {value}."
            case "open_files":
                return f"{tool} opened more files than its limit of {value}."
            case "file_size":
                return f"{tool} wrote a file larger than its limit of {value:,} bytes."
        raise ValueError(f"no such limit: {limit}")


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskConfig:
    """The policy of one task tool. `task=True` is `TaskConfig()`.

    Raises:
        PolicyError: a value that cannot work, or two that contradict each other.
    """

    mode: Literal["optional", "required"] = "optional"
    """`required`: clients that cannot follow a task are refused; `optional`: they wait for the result."""
    timeout: Duration | Literal["default"] | None = "default"
    """Longest run of one attempt; None = no limit; `default`: the workers' TASKMILL_TOOL_TIMEOUT, which is none unless
    an operator sets it."""
    retries: int = 0
    """How often an attempt that raised or timed out is tried again. Never after a `ToolError` or `MCPError`: those
    are answers."""
    backoff: Backoff = 2
    """Wait before the first retry, doubled each time; or a function of the attempt, or a tenacity wait strategy.
    An hour at most."""
    retry_on: RetryOn | None = None
    """Kinds of error that are tried again, or a function of the error; None = any, and a timeout."""
    deadline: Duration | None = None
    """How long after its creation the task must have ended, with all attempts and waits; None = no limit."""
    retention: Duration = timedelta(hours=24)
    """How long the result stays readable after the end."""
    poll_interval: Duration = 1
    """How often clients are advised to poll."""
    park_after: Duration | None = 5
    """How long a task that waits for an answer stays in its worker's memory; None = until it is answered."""
    queue: str = "default"
    """Name of the queue; workers serve the queue they are started for."""
    scopes: Sequence[str] = ()
    """Scopes of which the caller's access token must have every one."""
    isolation: Literal["none", "process"] = "none"
    """`process`: it runs in a process of its own, which a cancel or a timeout kills."""
    memory_limit: int | None = None
    """Bytes that process may use, with those that it starts; None = no limit."""
    cpu_limit: Duration | None = None
    """Processor time that one attempt may use there, with all processes that it starts; None = no limit."""
    process_limit: int | None = None
    """Processes that it may have started at the same time; None = no limit."""
    open_file_limit: int | None = None
    """Files, sockets and pipes that each of its processes may have open; None = no limit."""
    file_size_limit: int | None = None
    """Bytes of each file that it writes; None = no limit."""
    reuse: Reuse = "principal"
    """Whose next task that process runs: the same caller's; `any`: every caller's; `never`: none."""
    idempotency: KeySource | None = None
    """What makes two calls of one caller the same call: the second one gets the task of the first. A template of
    arguments, their names, a function of them, or `"_meta"`: the client sends the key."""
    handoff_after: Duration | None = None
    """When a call of a client with a call timeout is handed off; None = as its host is known to need."""
    priority: int = 0
    """From -5 to 5; higher is sooner. No task starves: each level gives a head start and
    twice the share."""
    concurrency_key: KeySource | None = None
    """Tasks with the same key share a lane; None = all tasks of the tool do, if there is a limit or a rate."""
    concurrency_limit: int | None = None
    """How many tasks of a lane run at once; None = one, or any number where only a rate is given."""
    rate_limit: tuple[int, Duration] | None = None
    """(n, period): a lane starts at most n tasks in any such period."""
    webhook: str | Literal[False] | None = None
    """Where a signed request goes when a task has ended; None = where the deployment's go, False = nowhere."""
    schedule: Schedule | str | Duration | None = None
    """When it runs by itself: a cron line (`"*/5 * * * *"`), an interval, or a `Schedule` with a time zone and what
    becomes of missed firings; None = only when it is called."""
    schedule_arguments: Mapping[str, Any] | None = None
    """The arguments of these runs; None = it needs none."""

    def __post_init__(self) -> None:
        if self.mode not in ("optional", "required"):
            raise PolicyError(f"mode must be 'optional' or 'required', not {self.mode!r}")
        if isinstance(self.retries, bool) or not isinstance(self.retries, int) or self.retries < 0:
            raise PolicyError(f"retries must be a whole number from 0, not {self.retries!r}")
        if self.run_limit == timedelta(0):
            raise PolicyError("timeout=0 would end every run before it starts; use None for no limit")
        if as_timedelta(self.retention, what="retention") < timedelta(seconds=1):
            raise PolicyError("retention under a second would drop the result before anybody can read it")
        if as_timedelta(self.poll_interval, what="poll_interval") < timedelta(milliseconds=1):
            raise PolicyError("poll_interval must be at least a millisecond")
        check_backoff(self.backoff)
        if self.deadline is not None and as_timedelta(self.deadline, what="deadline") == timedelta(0):
            raise PolicyError("deadline=0 would end every task before it starts; use None for no limit")
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
        if self.webhook is not None and self.webhook is not False:
            try:
                check_webhook_url(self.webhook)
            except ValueError as exc:
                raise PolicyError(f"webhook: {exc}") from None
        self._check_lanes()
        self._check_isolation()
        check_scheduled(self.firings, self.schedule_arguments)

    def _check_isolation(self) -> None:
        if self.isolation not in ("none", "process"):
            raise PolicyError(f"isolation must be 'none' or 'process', not {self.isolation!r}")
        _check_limits(self._counted_limits(), self.reuse)
        if self.cpu_limit is not None and as_timedelta(self.cpu_limit, what="cpu_limit") == timedelta(0):
            raise PolicyError("cpu_limit=0 would end every run before it starts; use None for no limit")

    def _counted_limits(self) -> dict[str, int | None]:
        names = ("memory_limit", "process_limit", "open_file_limit", "file_size_limit")
        return {name: getattr(self, name) for name in names}

    def _check_lanes(self) -> None:
        if isinstance(self.priority, bool) or not isinstance(self.priority, int) or abs(self.priority) > _TOP_PRIORITY:
            raise PolicyError(f"priority must be a whole number from -5 to 5, not {self.priority!r}")
        if self.concurrency_key is not None:
            check_source(self.concurrency_key, what="concurrency_key")
        limit = self.concurrency_limit
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise PolicyError(f"concurrency_limit must be a whole number from 1, not {limit!r}")
        if self.rate_limit is not None:
            _check_rate(self.rate_limit)

    def check_against(self, arguments: Sequence[str], required: Sequence[str] = ()) -> None:
        """Refuse what does not fit a tool with these arguments, and fields that contradict each other.

        Raises:
            PolicyError: a key is made of an argument the tool does not have; its schedule lacks one that it must have;
                or two fields contradict each other.
        """
        check_scheduled_arguments(self.firings, self.schedule_arguments or {}, arguments, required)
        if self.retry_on is not None:
            check_retry_on(self.retry_on, self.retries)
        self._check_times()
        if self.isolation != "process":
            self._refuse_limits_without_process()
        if self.idempotency is not None and self.idempotency != FROM_META:
            check_arguments(self.idempotency, arguments, what="idempotency")
        if self.concurrency_key is not None:
            check_arguments(self.concurrency_key, arguments, what="concurrency_key")

    def _refuse_limits_without_process(self) -> None:
        for name, value in {**self._counted_limits(), "cpu_limit": self.cpu_limit}.items():
            if value is not None:
                what = "memory" if name == "memory_limit" else "process"
                raise PolicyError(f"{name} needs isolation='process': the {what} of a worker is everybody's")

    def _check_times(self) -> None:
        limit, total = self.run_limit, self.time_limit
        if total is not None and limit is not None and total < limit:
            raise PolicyError(f"deadline={self.deadline!r} is shorter than timeout={self.timeout!r} of one attempt")
        first = wait_before(self.backoff, 1) if self.retries or callable(self.backoff) else None
        if total is not None and first is not None and first >= total:
            waits = first.total_seconds()
            raise PolicyError(f"backoff waits {waits:g} s before the first retry, beyond deadline={self.deadline!r}")

    @staticmethod
    def _refuse_constant(template: str) -> None:
        if not arguments_of(template):
            raise PolicyError(
                f"idempotency={template!r} would be the same for every call; write argument names in braces, "
                f"or {FROM_META!r} for the client's key"
            )

    def lane(self, key: str) -> Lane | None:
        """The lane of a task with this key; None if tasks of this tool do not wait for each other."""
        if self.concurrency_key is None and self.concurrency_limit is None and self.rate_limit is None:
            return None
        if self.rate_limit is None:
            return Lane(key, self.concurrency_limit or 1)
        starts, period = self.rate_limit
        rate = (starts, int(as_timedelta(period, what="rate_limit").total_seconds() * 1000))
        if self.concurrency_limit is None:
            return Lane(key, starts, rate, is_left_at_start=True)
        return Lane(key, self.concurrency_limit, rate)

    @property
    def firings(self) -> Schedule | None:
        """When it runs by itself, None = never."""
        return as_schedule(self.schedule)

    @property
    def run_limit(self) -> timedelta | None:
        """Longest run of one attempt, None = the policy sets no limit."""
        if self.timeout is None or self.timeout == "default":
            return None
        return as_timedelta(self.timeout, what="timeout")

    def timed_by(self, seconds: float) -> "TaskConfig":
        """This policy with a timeout of so many seconds, 0 = none, if it has the default one."""
        return replace(self, timeout=seconds) if seconds and self.timeout == "default" else self

    @property
    def limits(self) -> Limits:
        """What one attempt may use in a process of its own."""
        cpu = None if self.cpu_limit is None else as_timedelta(self.cpu_limit, what="cpu_limit").total_seconds()
        return Limits(
            memory=self.memory_limit,
            cpu=cpu,
            processes=self.process_limit,
            open_files=self.open_file_limit,
            file_size=self.file_size_limit,
        )

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
        """How often a client is advised to poll."""
        return as_timedelta(self.poll_interval, what="poll_interval")

    @property
    def time_limit(self) -> timedelta | None:
        """How long after its creation the task must have ended, None = no limit."""
        return None if self.deadline is None else as_timedelta(self.deadline, what="deadline")

    def retry_delay(self, failures: int, error: BaseException | None = None) -> timedelta | None:
        """Wait before the next attempt after `failures` failed ones (from 1), the last with `error`; None = no retry.

        Raises:
            Exception: whatever the author's own `backoff` or `retry_on` raises.
        """
        if failures > self.retries:
            return None
        if isinstance(error, Retry):
            return wait_before(self.backoff, failures) if error.after is None else error.after
        if error is not None and self.retry_on is not None:
            kinds = isinstance(self.retry_on, type | tuple)
            if not (isinstance(error, self.retry_on) if kinds else self.retry_on(error)):  # type: ignore[arg-type, operator]
                return None
        return wait_before(self.backoff, failures)


def _check_rate(rate: object) -> None:
    if not isinstance(rate, Sequence) or isinstance(rate, str) or len(rate) != 2:
        raise PolicyError(f"rate_limit must be (starts, period), such as (10, 60), not {rate!r}")
    starts, period = rate
    if isinstance(starts, bool) or not isinstance(starts, int) or not 0 < starts <= _MOST_STARTS:
        raise PolicyError(f"rate_limit must allow from 1 to {_MOST_STARTS:,} starts in a period, not {starts!r}")
    if as_timedelta(period, what="rate_limit's period") < timedelta(milliseconds=1):
        raise PolicyError("rate_limit's period must be at least a millisecond")


def _check_limits(values: dict[str, Any], reuse: object) -> None:
    if reuse not in get_args(Reuse):
        raise PolicyError(f"reuse must be 'principal', 'any' or 'never', not {reuse!r}")
    for name, value in values.items():
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < _LEAST[name]:
            raise PolicyError(f"{name} must be {_WHAT[name]}, not {value!r}")


def check_webhook_url(url: object) -> str:
    """The address, if a request can be sent to it.

    Raises:
        ValueError: it cannot; the message says what is missing and never shows the address, which may hold a token.
    """
    if not isinstance(url, str):
        raise ValueError("a webhook must be an address, such as https://hooks.example.com/taskmill")
    if len(url) > _LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"a webhook's address must be at most {_LONGEST_URL:,} ASCII characters without blanks")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("a webhook's address has a host or a port that is none") from None
    if parts.scheme not in ("https", "http") or not host:
        raise ValueError("a webhook's address must begin with https:// and name a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a webhook's address must have no user and no password: the receiver checks the signature")
    if parts.fragment:
        raise ValueError("a webhook's address must have no part behind a #: it would not be sent")
    return url
