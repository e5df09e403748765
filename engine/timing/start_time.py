"""When a delayed task may start: what a caller asks for, checked. A call, the HTTP API and commands ask alike."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

from taskmill.engine.errors import BadArguments

__all__ = ["LONGEST_DELAY", "check_deadline", "start_ms"]

LONGEST_DELAY = timedelta(days=30)
"""How far in the future a task may have to start."""
_MS = timedelta(milliseconds=1)
_LIMIT = f"{LONGEST_DELAY.total_seconds():,.0f} ({LONGEST_DELAY.days} days)"
_EXAMPLES = "2027-01-31T08:00:00Z or 2027-01-31T09:00:00+01:00"


def start_ms(
    delay: Any, not_before: Any, now_ms: int, *, names: tuple[str, str] = ("delay", "not_before")
) -> int | None:
    """Before when a task may not start, milliseconds since 1970, None = it may at once.

    `delay`: a number of seconds; `not_before`: a time in ISO 8601 with its zone; None = not given. `names`: how a
    caller writes the two.

    Raises:
        BadArguments: both are given, or one that is no such value; or it is too far in the future.
    """
    if delay is not None and not_before is not None:
        raise BadArguments(f"Give either {names[0]} or {names[1]}.")
    if delay is not None:
        return now_ms + _delay_ms(delay, names[0])
    if not_before is None:
        return None
    at_ms = _time_ms(not_before, names[1])
    if at_ms - now_ms > LONGEST_DELAY / _MS:
        raise BadArguments(f"{names[1]} must be within the next {LONGEST_DELAY.days} days.")
    return at_ms


def check_deadline(not_before_ms: int, now_ms: int, deadline: timedelta | None) -> None:
    """Refuse a task that would have to end before it may start.

    Raises:
        BadArguments: it would; `deadline` is counted from the creation, which is now.
    """
    if deadline is None or not_before_ms < now_ms + deadline / _MS:
        return
    raise BadArguments(
        f"The task could not start before {_shown(not_before_ms)}, and tasks of this tool must have ended "
        f"{deadline.total_seconds():,g} s after their creation, at {_shown(now_ms + deadline / _MS)}: "
        "ask for an earlier start."
    )


def _delay_ms(value: Any, name: str) -> int:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= LONGEST_DELAY.total_seconds():
        raise BadArguments(f"{name} must be a number of seconds from 0 to {_LIMIT}.")
    milliseconds: float = 1000 * value
    return round(milliseconds)


def _time_ms(value: Any, name: str) -> int:
    try:
        at = datetime.fromisoformat(value)
    except (TypeError, ValueError, OverflowError):
        raise BadArguments(f"{name} must be a time in ISO 8601 with its zone, such as {_EXAMPLES}.") from None
    if at.tzinfo is None:
        raise BadArguments(f"{name} must say its time zone: write {_EXAMPLES}.")
    return math.ceil(at.timestamp() * 1000)


def _shown(ms: float) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"
