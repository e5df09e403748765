"""When a tool runs by itself: firings in time zones, over changes of the clocks, and after an outage."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taskmill.engine.errors import PolicyError
from taskmill.engine.policy import TaskConfig
from taskmill.engine.timing.schedule import Schedule


def ms(text: str) -> int:
    """Milliseconds since 1970 of a time in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def firings(schedule: Schedule, after: str, count: int) -> list[str]:
    found, at = [], ms(after)
    for _ in range(count):
        at = schedule.next_after(at) or 0
        found.append(f"{datetime.fromtimestamp(at / 1000, UTC):%m-%d %H:%M:%S}")
    return found


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        (Schedule("*/20 * * * *"), "2026-11-30 12:00", ["11-30 12:20:00", "11-30 12:40:00", "11-30 13:00:00"]),
        (Schedule("*/30 * * * * *"), "2026-11-30 12:00", ["11-30 12:00:30", "11-30 12:01:00"]),
        (Schedule("0 7 * * MON"), "2026-11-30 07:00", ["12-07 07:00:00"]),
        (Schedule("0 7 * * *", "America/New_York"), "2026-11-30 00:00", ["11-30 12:00:00"]),
        # An hour that does not exist: right after it. One that comes twice: the first time.
        (Schedule("30 2 * * *", "Europe/Berlin"), "2026-03-28 12:00", ["03-29 01:00:00", "03-30 00:30:00"]),
        (Schedule("30 2 * * *", "Europe/Berlin"), "2026-10-24 12:00", ["10-25 00:30:00", "10-26 01:30:00"]),
        # What runs all day goes on by the clock of the sun.
        (Schedule("*/30 * * * *", "Europe/Berlin"), "2026-10-25 00:00", ["10-25 00:30:00", "10-25 01:00:00"]),
        (Schedule(timedelta(minutes=5)), "2026-11-30 12:01", ["11-30 12:05:00", "11-30 12:10:00"]),
        (Schedule(90), "1970-01-01 00:00", ["01-01 00:01:30", "01-01 00:03:00"]),
    ],
)
def test_a_schedule_fires_at_these_times(schedule: Schedule, after: str, expected: list[str]) -> None:
    assert firings(schedule, after, len(expected)) == expected
    assert Schedule.of_json(schedule.as_json()).next_after(ms(after)) == schedule.next_after(ms(after))


def test_what_was_missed_in_the_first_of_two_equal_hours_is_made_up_for_in_the_second() -> None:
    schedule = Schedule("30 1-3 * * *", "Europe/Berlin", missed="run_once")

    made_up = schedule.due(ms("2026-10-24 23:45"), ms("2026-10-25 01:10"))

    assert made_up == [ms("2026-10-25 00:30")]


@pytest.mark.parametrize("missed", ["skip", "run_once"])
def test_firings_of_the_last_minute_are_all_made_up_for(missed: Any) -> None:
    schedule, now = Schedule(20, missed=missed), ms("2026-11-30 12:00:30")

    assert schedule.due(now - 3_600_000, now) == [now - 50_000, now - 30_000, now - 10_000]
    assert schedule.due(now - 30_000, now) == [now - 10_000]
    assert schedule.due(now - 10_000, now) == []
    assert schedule.due(now - 10_000, now + 10_000) == [now + 10_000], "the one of this very moment"


def test_missed_firings_are_skipped_or_the_latest_is_made_up_for_once() -> None:
    now, hourly = ms("2026-11-30 12:30"), "0 * * * *"
    before = ms("2026-11-30 08:00")

    assert Schedule(hourly).due(before, now) == []
    assert Schedule(hourly).missed_at(before, now) == ms("2026-11-30 12:00")
    assert Schedule(hourly, missed="run_once").due(before, now) == [ms("2026-11-30 12:00")]
    assert Schedule(hourly, missed="run_once").due(ms("2026-11-30 12:00"), now) == []
    just_now = ms("2026-11-30 12:00:20")
    assert Schedule(hourly, missed="run_once").due(before, just_now) == [ms("2026-11-30 12:00")], "and no second one"


def test_a_missed_firing_is_found_by_the_clock_of_its_zone_to_the_last_moment_of_its_minute() -> None:
    daily, at = Schedule("0 7 * * *", "Europe/Berlin", "run_once"), ms("2026-11-30 06:00")

    assert daily.missed_at(at - 1, at + 59_999) is None
    assert daily.missed_at(at - 1, at + 60_000) == at
    assert daily.missed_at(at, at + 60_000) is None


def test_a_schedule_is_the_same_after_it_was_stored() -> None:
    for schedule in (
        Schedule("0 7 * * *", "Europe/Berlin", "run_once"),
        Schedule(timedelta(minutes=5), missed="run_once"),
    ):
        assert Schedule.of_json(schedule.as_json()) == schedule


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"when": "61 * * * *"},
            r"schedule='61 \* \* \* \*' is no cron line \(bad minute\): write five fields, minute ",
        ),
        ({"when": "every day"}, "such as '.*'; or an interval, timedelta"),
        ({"when": "@daily"}, "is no cron line"),
        ({"when": ""}, "is no cron line"),
        ({"when": "0 0 30 2 *"}, "is no cron line"),
        (
            {"when": "* * * * *", "timezone": "Mars/Base"},
            "timezone='Mars/Base' is not known here: write a name such as",
        ),
        ({"when": 5, "timezone": "Europe/Berlin"}, "timezone is for cron lines"),
        ({"when": 0.5}, "must be an interval from a second to 366 days"),
        ({"when": timedelta(days=367)}, "must be an interval from a second to 366 days"),
        ({"when": float("nan")}, "must be an interval from a second"),
        ({"when": True}, "schedule must be a cron line, a timedelta or seconds"),
        ({"when": 5, "missed": "all"}, "missed must be 'skip' or 'run_once'"),
    ],
)
def test_what_is_no_schedule_is_refused_with_what_to_write(given: dict[str, Any], words: str) -> None:
    with pytest.raises(PolicyError, match=words):
        Schedule(**given)


def test_arguments_of_a_schedule_fit_the_tool_or_are_refused() -> None:
    for policy, words in (
        (TaskConfig(schedule="* * * * *"), r"without the argument 'path': write schedule_arguments={'path': ...}"),
        (TaskConfig(schedule=5, schedule_arguments={"pat": "x"}), "has 'pat', which is none of its arguments: path"),
    ):
        with pytest.raises(PolicyError, match=words):
            policy.check_against(["path"], ["path"])
    TaskConfig(schedule=5, schedule_arguments={"path": "x"}).check_against(["path"], ["path"])
    for given, words in (({"path": object()}, "as JSON"), (["path"], "must be a dict")):
        with pytest.raises(PolicyError, match=words):
            TaskConfig(schedule=5, schedule_arguments=given)  # type: ignore[arg-type]
    with pytest.raises(PolicyError, match="schedule_arguments needs a schedule"):
        TaskConfig(schedule_arguments={"path": "x"})


@pytest.mark.parametrize(
    ("when", "words"),
    [
        (90, "every 90 s"),
        (timedelta(minutes=5), "every 5 min"),
        (7200, "every 2 h"),
        (timedelta(days=7), "every 7 d"),
        ("0 7 * * MON-FRI", "At 07:00 on Monday through Friday"),
        ("*/30 * * * * *", "Every 30th second of every minute"),
    ],
)
def test_a_schedule_is_told_in_words(when: Any, words: str) -> None:
    assert Schedule(when).words == words
