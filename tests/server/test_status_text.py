"""The one line of words for a task's state: what a person who waits wants to know."""

from dataclasses import replace
from time import time
from typing import Any

import pytest

from taskmill.engine.record import Progress, TaskRecord, TaskView
from taskmill.engine.status import Status
from taskmill.server.protocol.status_text import status_text

BORN = TaskRecord(
    id="t",
    tool="count",
    queue="default",
    principal="anonymous",
    status=Status.PENDING,
    created_ms=1000,
    updated_ms=1000,
    seq=1,
)


def text(**changes: Any) -> str:
    return status_text(TaskView(replace(BORN, **changes)))


def in_seconds(seconds: float) -> int:
    return int((time() + seconds) * 1000)


@pytest.mark.parametrize(
    ("reason", "why"),
    [
        ("timed_out", "the last one timed out"),
        ("crashed", "the last one failed"),
        ("asked_again", "the last one asked for another"),
    ],
)
def test_a_task_that_waits_for_its_next_attempt_says_which_when_and_why(reason: str, why: str) -> None:
    """Crashes of workers and waits for answers are no attempts that a person counts."""
    said = text(reason=reason, failures=1, retries=3, attempt=4, due_ms=in_seconds(7.5))

    assert said == f"attempt 2 of 4 in 8 s: {why}"


@pytest.mark.parametrize(
    ("drains", "words"), [(1, ""), (2, " for the 2nd time,"), (11, " for the 11th time,"), (23, " for the 23rd time,")]
)
def test_a_task_whose_workers_are_stopped_again_and_again_says_how_often(drains: int, words: str) -> None:
    assert text(reason="drain", drains=drains) == f"its worker was stopped,{words} queued again"


def test_an_attempt_whose_time_has_come_is_queued() -> None:
    said = text(reason="timed_out", failures=1, retries=3, due_ms=in_seconds(-1))

    assert said == "attempt 2 of 4, queued: the last one timed out"


def test_a_running_retry_says_which_attempt_it_is_until_the_tool_says_more() -> None:
    again = {"status": Status.RUNNING, "failures": 2, "retries": 3, "attempt": 3}

    assert text(**again) == "attempt 3 of 4"
    assert text(**again, progress=Progress(1, 2, "half")) == "half (50%)"


def test_a_tool_that_runs_again_after_an_answer_is_just_running() -> None:
    assert text(status=Status.RUNNING, attempt=2) == "running"


def test_a_crash_is_told_with_the_attempt_at_which_it_happened() -> None:
    assert text(status=Status.COMPLETED, reason="crashed") == "the tool broke"
    assert text(status=Status.COMPLETED, reason="crashed", failures=3, retries=3) == "the tool broke at attempt 4 of 4"
