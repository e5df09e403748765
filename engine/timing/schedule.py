"""When a tool runs by itself: `Schedule`, checked when the tool is declared, and the arithmetic of its firings.

Times are milliseconds since 1970. Who makes a task of a firing, and that only one does, is not known here.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice, takewhile
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from taskmill.engine.errors import PolicyError

__all__ = ["ON_TIME_MS", "Missed", "Schedule", "as_schedule", "check_scheduled", "check_scheduled_arguments"]

Missed = Literal["skip", "run_once"]
"""What becomes of firings that were missed: nothing; or one task, for the latest of them."""

ON_TIME_MS = 60_000
"""How late a firing may still be: workers that were away no longer than this make up for it."""

_MS = timedelta(milliseconds=1)
_LENGTHS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"))
_SHORTEST, _LONGEST = timedelta(seconds=1), timedelta(days=366)
_MOST_AT_ONCE = 100
"""Firings that are due at the same moment, at most: there is one a second, and none is later than a minute."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a tool runs by itself.

    `when`: a cron line of five fields, minute, hour, day of month, month, day of week (`"*/5 * * * *"`), or of six,
    with the second first; or an interval, whose firings are at its multiples since 1970, so that all workers agree.
    `timezone`: of a cron line, a name such as `Europe/Berlin`. `missed`: what becomes of firings that no worker was
    there for within a minute: `skip` them, or `run_once` for the latest of them.

    Raises:
        PolicyError: it is no schedule; the message says what to write.
    """

    when: str | timedelta | float
    timezone: str = "UTC"
    missed: Missed = "skip"

    def __post_init__(self) -> None:
        if self.missed not in get_args(Missed):
            raise PolicyError(f"missed must be 'skip' or 'run_once', not {self.missed!r}")
        if isinstance(self.when, str):
            self._check_cron(self.when)
            return
        is_number = isinstance(self.when, int | float) and not isinstance(self.when, bool)
        if not is_number and not isinstance(self.when, timedelta):
            raise PolicyError(f"schedule must be a cron line, a timedelta or seconds, not {self.when!r}")
        if not _SHORTEST / _MS <= self._interval_ms <= _LONGEST / _MS:
            raise PolicyError(f"schedule={self.when!r} must be an interval from a second to {_LONGEST.days} days")
        if self.timezone != "UTC":
            raise PolicyError("timezone is for cron lines: an interval has none")

    @property
    def text(self) -> str:
        """How people are shown it: the cron line, or `every 300 s`."""
        return self.when if isinstance(self.when, str) else f"every {self._interval_ms / 1000:g} s"

    @property
    def words(self) -> str:
        """The same in words: `every 5 min`, `At 07:00 on Monday through Friday`."""
        from cronsim import CronSim

        if isinstance(self.when, str):
            return CronSim(self.when, datetime.now(UTC)).explain()
        for length, unit in _LENGTHS:
            if self._interval_ms % length == 0:
                return f"every {self._interval_ms // length} {unit}"
        return self.text

    def next_after(self, at_ms: float) -> int | None:
        """The first firing after this time; None = there is none."""
        return next(self._from(at_ms), None)

    def due(self, after_ms: int, now_ms: int) -> list[int]:
        """The firings, oldest first, that are to be made up for now; all up to `after_ms` have been seen to.

        Those of the last minute; where there is none, by policy the latest of those before.
        """
        on_time_from = max(after_ms, now_ms - ON_TIME_MS)
        on_time = []
        for at_ms in islice(self._from(on_time_from), _MOST_AT_ONCE):
            if at_ms > now_ms:
                break
            on_time.append(at_ms)
        if on_time or self.missed == "skip":
            return on_time
        missed = self.missed_at(after_ms, now_ms)
        return [] if missed is None else [missed]

    def missed_at(self, after_ms: int, now_ms: int) -> int | None:
        """The latest firing after `after_ms` that is too late by now; None = there is none."""
        latest = self._latest(now_ms - ON_TIME_MS)
        return latest if latest is not None and latest > after_ms else None

    def as_json(self) -> str:
        """For `of_json`; the same schedule is the same text."""
        facts: dict[str, Any] = {"missed": self.missed}
        facts |= {"cron": self.when, "timezone": self.timezone} if isinstance(self.when, str) else {}
        facts |= {} if isinstance(self.when, str) else {"every_ms": self._interval_ms}
        return json.dumps(facts, sort_keys=True, separators=(",", ":"))

    @classmethod
    def of_json(cls, text: str) -> "Schedule":
        """The schedule that `as_json` gave.

        Raises:
            PolicyError, ValueError, LookupError, TypeError: it is none.
        """
        facts: Mapping[str, Any] = json.loads(text)
        if "every_ms" in facts:
            return cls(timedelta(milliseconds=facts["every_ms"]), missed=facts["missed"])
        return cls(facts["cron"], facts["timezone"], facts["missed"])

    @property
    def _interval_ms(self) -> int:
        assert not isinstance(self.when, str)
        try:
            length = self.when if isinstance(self.when, timedelta) else timedelta(seconds=self.when)
        except (OverflowError, ValueError):
            return 0
        return length // _MS

    @property
    def _zone(self) -> tzinfo:
        return UTC if self.timezone == "UTC" else ZoneInfo(self.timezone)

    def _from(self, after_ms: float) -> Iterator[int]:
        """The firings after this time."""
        if isinstance(self.when, str):
            yield from (ms for ms in _cron(self.when, after_ms, self._zone) if ms > after_ms)
            return
        number = int(after_ms // self._interval_ms) + 1
        while True:
            yield number * self._interval_ms
            number += 1

    def _latest(self, until_ms: int) -> int | None:
        """The last firing at this time or before, None = there is none."""
        if isinstance(self.when, str):
            backwards = _cron(self.when, until_ms + 1, self._zone, reverse=True)
            latest = next((ms for ms in backwards if ms <= until_ms), None)
            # From within an hour that comes twice, the first of the two hours is left out backwards, and not forwards.
            later = () if latest is None else takewhile(lambda ms: ms <= until_ms, self._from(latest))
            return max(later, default=latest)
        return until_ms // self._interval_ms * self._interval_ms

    def _check_cron(self, line: str) -> None:
        from cronsim import CronSimError

        if not isinstance(self.timezone, str):
            raise PolicyError(f"timezone must be a name such as 'Europe/Berlin', not {self.timezone!r}")
        try:
            zone = self._zone
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise PolicyError(
                f"timezone={self.timezone!r} is not known here: write a name such as 'Europe/Berlin'. On a system "
                "without time zones, install the package tzdata."
            ) from None
        try:
            first = next(_cron(line, datetime.now(UTC).timestamp() * 1000, zone), None)
        except CronSimError as exc:
            raise PolicyError(
                f"schedule={line!r} is no cron line ({str(exc)[:1].lower()}{str(exc)[1:]}): write five fields, minute "
                "hour day-of-month month day-of-week, such as '*/5 * * * *'; or an interval, timedelta(minutes=5)."
            ) from None
        if first is None:
            raise PolicyError(f"schedule={line!r} names a day that never comes")


def as_schedule(given: object) -> Schedule | None:
    """What an author wrote as `schedule=`; None = nothing.

    Raises:
        PolicyError: it is no schedule.
    """
    return given if given is None or isinstance(given, Schedule) else Schedule(given)  # type: ignore[arg-type]


def check_scheduled(schedule: Schedule | None, arguments: object) -> None:
    """Refuse arguments that no run can have.

    Raises:
        PolicyError: there is no schedule, or they are no arguments.
    """
    if arguments is None:
        return
    if schedule is None:
        raise PolicyError("schedule_arguments needs a schedule: these are the arguments of its runs")
    if not isinstance(arguments, dict):
        raise PolicyError(f"schedule_arguments must be a dict of arguments by name, not {arguments!r}")
    try:
        json.dumps(arguments, allow_nan=False)
    except (TypeError, ValueError) as exc:
        raise PolicyError(f"schedule_arguments must be what a client can send as JSON: {exc}") from None


def check_scheduled_arguments(
    schedule: Schedule | None, given: Mapping[str, Any], arguments: Sequence[str], required: Sequence[str]
) -> None:
    """Refuse arguments of runs that do not fit a tool with these arguments.

    Raises:
        PolicyError: it has no such argument, or lacks one that it must have.
    """
    if unknown := sorted(given.keys() - set(arguments)):
        has = ", ".join(arguments) or "none"
        raise PolicyError(f"schedule_arguments has {unknown[0]!r}, which is none of its arguments: {has}")
    if schedule is not None and (missing := [name for name in required if name not in given]):
        raise PolicyError(
            f"its schedule runs it without the argument {missing[0]!r}: write "
            f"schedule_arguments={{{missing[0]!r}: ...}}, or give it a default"
        )


def _cron(line: str, from_ms: float, zone: tzinfo, *, reverse: bool = False) -> Iterator[int]:
    """The firings of a cron line from about this time on, or backwards; a change of the clocks is minded as cron does.

    Raises:
        CronSimError: it is no cron line.
    """
    from cronsim import CronSim  # most tools have no schedule, and need not wait for its import

    for at in CronSim(line, datetime.fromtimestamp(from_ms / 1000, zone), reverse=reverse):
        yield round(at.timestamp() * 1000)
