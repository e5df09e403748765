"""When a failed attempt is tried again, and after how long. Only the arithmetic and its checks: the worker applies
them (`workers/attempts/endings.py`).

A wait strategy of a library becomes a plain function of the attempt's number elsewhere (`server/tools/registry.py`).
"""

from collections.abc import Callable
from datetime import timedelta

from taskmill.engine.errors import PolicyError

__all__ = ["Backoff", "Duration", "Retry", "RetryOn", "as_timedelta", "check_backoff", "check_retry_on", "wait_before"]

Duration = timedelta | float | int
"""A timedelta, or seconds."""
Backoff = Duration | Callable[[int], Duration]
"""First wait, doubled each time; or the wait as a function of how many attempts have failed, from 1."""
RetryOn = type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], object]
"""Classes of errors, or a function that says of an error whether another attempt may help. A timeout is a
`TimeoutError`."""

_NONE = timedelta(0)
_LONGEST = timedelta(hours=1)


class Retry(Exception):
    """Raised by a tool: this attempt is over, try again `after` so long (None = as the policy's backoff says).

    It counts as a failed attempt. The message appears in the worker's log only.
    """

    def __init__(self, message: str = "", *, after: Duration | None = None) -> None:
        super().__init__(message)
        self.after = None if after is None else as_timedelta(after, what="after")


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
    if duration < _NONE:
        raise PolicyError(f"{what} must not be negative, got {value!r}")
    return duration


def wait_before(backoff: Backoff, failures: int) -> timedelta:
    """The wait before the next attempt after `failures` failed ones (from 1), an hour at most.

    Raises:
        PolicyError: the author's function returned something else than a duration.
    """
    if callable(backoff):
        return min(_LONGEST, as_timedelta(backoff(failures), what=f"backoff({failures})"))
    first = min(_LONGEST, as_timedelta(backoff, what="backoff"))
    doubled: timedelta = first * float(2 ** min(failures - 1, 20))
    return min(_LONGEST, doubled)


def check_backoff(backoff: object) -> None:
    """Refuse what is not a backoff.

    Raises:
        PolicyError: neither a duration nor a function.
    """
    if not callable(backoff):
        as_timedelta(backoff, what="backoff")  # type: ignore[arg-type]  # that is what this checks


def check_retry_on(retry_on: object, retries: int) -> None:
    """Refuse what is no choice of errors, and a choice that `retries` contradicts.

    Raises:
        PolicyError: one of both.
    """
    kinds = retry_on if isinstance(retry_on, tuple) else (retry_on,)
    if isinstance(retry_on, tuple | type) and not all(_is_error(kind) for kind in kinds):
        raise PolicyError(f"retry_on must name kinds of error, such as (OSError, TimeoutError), not {retry_on!r}")
    if not isinstance(retry_on, tuple | type) and not callable(retry_on):
        raise PolicyError(f"retry_on must be kinds of error or a function of one, not {retry_on!r}")
    if retries and retry_on == ():
        raise PolicyError(f"retries={retries} and retry_on=() contradict each other: no error may be tried again")
    if not retries:
        raise PolicyError("retry_on says what to try again, and retries=0 says never: set retries")


def _is_error(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)
