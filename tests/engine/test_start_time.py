"""When a delayed task may start: what is asked for is taken as it is written, or refused in words."""

from datetime import timedelta
from typing import Any

import pytest

from taskmill.engine.errors import BadArguments
from taskmill.engine.timing.start_time import check_deadline, start_ms

NOW = 1_800_000_000_000
"""2027-01-15T08:00:00Z."""


@pytest.mark.parametrize(
    ("delay", "not_before", "start"),
    [
        (None, None, None),
        (0, None, NOW),
        (1.5, None, NOW + 1500),
        (30 * 24 * 3600, None, NOW + 30 * 24 * 3_600_000),
        (None, "2027-01-15T09:00:00+01:00", NOW),
        (None, "2027-01-15T08:00:00.25Z", NOW + 250),
        (None, "2027-01-15T08:00:00.2501Z", NOW + 251),  # not before it
        (None, "2000-01-01T00:00Z", 946_684_800_000),
    ],
)
def test_a_start_is_what_was_asked_for(delay: Any, not_before: Any, start: int | None) -> None:
    assert start_ms(delay, not_before, NOW) == start


@pytest.mark.parametrize(
    ("delay", "not_before", "words"),
    [
        (1, "2027-01-15T09:00:00Z", "Give either delay or not_before."),
        (-1, None, r"delay must be a number of seconds from 0 to 2,592,000 \(30 days\)."),
        (2_592_001, None, "delay must be a number"),
        (float("nan"), None, "delay must be a number"),
        (True, None, "delay must be a number"),
        ("60", None, "delay must be a number"),
        (None, "tomorrow", "not_before must be a time in ISO 8601 with its zone, such as 2027-01-31T08:00:00Z"),
        (None, NOW, "not_before must be a time in ISO 8601"),
        (None, "2027-01-15T09:00:00", "not_before must say its time zone: write 2027-01-31T08:00:00Z or"),
        (None, "2027-01-15", "not_before must say its time zone"),
        (None, "2027-02-14T08:00:01Z", "not_before must be within the next 30 days."),
        (None, "9999-12-31T23:59:59-23:59", "not_before must be within the next 30 days."),
    ],
)
def test_what_is_no_start_is_refused_with_what_to_write(delay: Any, not_before: Any, words: str) -> None:
    with pytest.raises(BadArguments, match=words):
        start_ms(delay, not_before, NOW)


def test_a_task_that_would_have_to_end_before_it_may_start_is_refused_with_both_times() -> None:
    check_deadline(NOW + 59_999, NOW, timedelta(minutes=1))
    check_deadline(NOW + 60_000, NOW, None)

    with pytest.raises(BadArguments) as refused:
        check_deadline(NOW + 60_000, NOW, timedelta(minutes=1))

    assert str(refused.value) == (
        "The task could not start before 2027-01-15T08:01:00Z, and tasks of this tool must have ended 60 s after their "
        "creation, at 2027-01-15T08:01:00Z: ask for an earlier start."
    )
