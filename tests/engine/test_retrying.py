"""When a failed attempt is tried again: errors, waits and deadlines, and policies that are refused."""

from datetime import timedelta
from typing import Any

import pytest

from taskmill.engine.errors import PolicyError
from taskmill.engine.policy import TaskConfig
from taskmill.engine.retrying import Retry

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("retry_on", "crash", "again"),
    [
        (None, ValueError(), True),
        (OSError, ConnectionError(), True),
        (OSError, ValueError(), False),
        ((OSError, TimeoutError), TimeoutError(), True),
        (lambda crash: "busy" in str(crash), RuntimeError("busy"), True),
        (lambda crash: "busy" in str(crash), RuntimeError("broken"), False),
    ],
)
def test_retry_on_says_which_errors_are_tried_again(retry_on: Any, crash: Exception, again: bool) -> None:
    policy = TaskConfig(retries=1, retry_on=retry_on)

    assert (policy.retry_delay(1, crash) is not None) is again


def test_a_retry_that_the_tool_asks_for_needs_no_kind_and_may_say_when() -> None:
    policy = TaskConfig(retries=2, backoff=7, retry_on=OSError)

    assert policy.retry_delay(1, Retry(after=30)) == 30 * SECOND
    assert policy.retry_delay(1, Retry()) == 7 * SECOND
    assert policy.retry_delay(3, Retry(after=30)) is None


def test_a_backoff_may_be_a_function_of_the_attempt() -> None:
    policy = TaskConfig(retries=9, backoff=lambda failures: failures * 10)

    assert [policy.retry_delay(failures) for failures in (1, 2)] == [10 * SECOND, 20 * SECOND]
    assert TaskConfig(retries=9, backoff=lambda _: timedelta(days=2)).retry_delay(1) == timedelta(hours=1)


def test_a_backoff_function_that_returns_no_duration_is_the_authors_error() -> None:
    with pytest.raises(PolicyError, match=r"backoff\(1\) must not be negative, got -1"):
        TaskConfig(retries=1, backoff=lambda _: -1).retry_delay(1)


@pytest.mark.parametrize("after", [-1, "soon", float("nan")])
def test_a_retry_after_nonsense_is_refused_where_it_is_made(after: Any) -> None:
    with pytest.raises(PolicyError, match="after must"):
        Retry(after=after)


@pytest.mark.parametrize(
    ("policy", "advice"),
    [
        ({"deadline": 5, "timeout": 10}, "deadline=5 is shorter than timeout=10 of one attempt"),
        (
            {"retries": 3, "retry_on": ()},
            "retries=3 and retry_on=() contradict each other: no error may be tried again",
        ),
        ({"retry_on": OSError}, "retry_on says what to try again, and retries=0 says never: set retries"),
        (
            {"retries": 1, "backoff": 60, "deadline": 60},
            "backoff waits 60 s before the first retry, beyond deadline=60",
        ),
        ({"retries": 1, "backoff": lambda _: 99, "deadline": 60}, "backoff waits 99 s before the first retry"),
        ({"retries": 1, "retry_on": "OSError"}, "retry_on must be kinds of error or a function of one, not 'OSError'"),
        ({"retries": 1, "retry_on": (OSError, "x")}, "retry_on must name kinds of error, such as"),
        ({"retries": 1, "retry_on": int}, "retry_on must name kinds of error, such as"),
        ({"backoff": lambda _: "soon"}, "backoff(1) must be a timedelta or a number of seconds, not 'soon'"),
    ],
    ids=lambda value: (value if isinstance(value, str) else ",".join(value))[:40],
)
def test_a_policy_that_contradicts_itself_is_refused_when_the_tool_is_declared(
    policy: dict[str, Any], advice: str
) -> None:
    with pytest.raises(PolicyError) as refused:
        TaskConfig(**policy).check_against(["path"])
    assert advice in str(refused.value)


@pytest.mark.parametrize("deadline", [0, -1, "5s", float("inf")])
def test_a_deadline_that_cannot_be_is_refused(deadline: Any) -> None:
    with pytest.raises(PolicyError, match="deadline"):
        TaskConfig(deadline=deadline)


def test_a_sound_policy_is_not_refused() -> None:
    TaskConfig(retries=3, backoff=1, timeout=10, deadline=60, retry_on=(OSError,)).check_against([])
