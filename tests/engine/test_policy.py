"""An author's policy: what is refused, in words that say what to do, and the arithmetic of retries."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmill.engine.errors import PolicyError
from taskmill.engine.policy import TaskConfig, as_timedelta
from taskmill.engine.record import Lane


@pytest.mark.parametrize(
    ("policy", "advice"),
    [
        ({"mode": "sometimes"}, "mode must be 'optional' or 'required', not 'sometimes'"),
        ({"mode": True}, "mode must be 'optional' or 'required', not True"),
        ({"retries": -1}, "retries must be a whole number from 0, not -1"),
        ({"retries": 1.5}, "retries must be a whole number from 0, not 1.5"),
        ({"retries": True}, "retries must be a whole number from 0, not True"),
        ({"timeout": 0}, "use None for no limit"),
        ({"timeout": timedelta(0)}, "use None for no limit"),
        ({"timeout": -1}, "timeout must not be negative, got -1"),
        ({"timeout": "5s"}, "timeout must be a timedelta or a number of seconds, not '5s'"),
        ({"timeout": True}, "timeout must be a timedelta or a number of seconds, not True"),
        ({"timeout": float("nan")}, "timeout must be a finite number of seconds, not nan"),
        ({"timeout": float("inf")}, "timeout must be a finite number of seconds, not inf"),
        ({"timeout": 1e300}, "timeout must be a finite number of seconds"),
        ({"backoff": -0.5}, "backoff must not be negative"),
        ({"retention": 0.999}, "retention under a second would drop the result"),
        ({"retention": timedelta(milliseconds=5)}, "retention under a second would drop the result"),
        ({"poll_interval": 0}, "poll_interval must be at least a millisecond"),
        ({"queue": ""}, "queue must be 1 to 64 letters"),
        ({"queue": "a" * 65}, "queue must be 1 to 64 letters"),
        ({"queue": "a b"}, "queue must be 1 to 64 letters"),
        ({"queue": "ü"}, "queue must be 1 to 64 letters"),
        ({"queue": "a:b"}, "queue must be 1 to 64 letters"),
        ({"queue": "a\n"}, "queue must be 1 to 64 letters"),
        ({"idempotency": ""}, "idempotency must not be empty; use None for no key"),
        ({"idempotency": "order"}, "idempotency='order' would be the same for every call; write argument"),
        ({"idempotency": "{principal}"}, "would be the same for every call"),
        ({"idempotency": "{order"}, "is not a template"),
        ({"idempotency": "{order.id}"}, "placeholders are argument names in braces, nothing more"),
        ({"idempotency": "{order!r}"}, "placeholders are argument names in braces, nothing more"),
        ({"idempotency": "{}"}, "placeholders are argument names in braces, nothing more"),
        ({"idempotency": []}, "idempotency must be a template, a list of argument names or a function, not []"),
        ({"idempotency": [1]}, "idempotency must be a template, a list of argument names or a function, not [1]"),
        ({"priority": 6}, "priority must be a whole number from -5 to 5, not 6"),
        ({"priority": 0.5}, "priority must be a whole number from -5 to 5, not 0.5"),
        ({"priority": True}, "priority must be a whole number from -5 to 5, not True"),
        ({"concurrency_key": "{a"}, "concurrency_key='{a' is not a template"),
        ({"concurrency_key": 7}, "concurrency_key must be a template, a list of argument names or a function, not 7"),
        ({"concurrency_limit": 0}, "concurrency_limit must be a whole number from 1, not 0"),
        ({"concurrency_limit": 1.0}, "concurrency_limit must be a whole number from 1, not 1.0"),
        ({"rate_limit": 10}, "rate_limit must be (starts, period), such as (10, 60), not 10"),
        ({"rate_limit": "10/m"}, "rate_limit must be (starts, period), such as (10, 60), not '10/m'"),
        ({"rate_limit": (0, 60)}, "rate_limit must allow from 1 to 10,000 starts in a period, not 0"),
        ({"rate_limit": (1, 0)}, "rate_limit's period must be at least a millisecond"),
        ({"rate_limit": (1, "m")}, "rate_limit's period must be a timedelta or a number of seconds, not 'm'"),
        ({"isolation": "thread"}, "isolation must be 'none' or 'process', not 'thread'"),
        ({"isolation": "process", "memory_limit": 1024}, "memory_limit must be a whole number of bytes from 32 MiB"),
        ({"isolation": "process", "memory_limit": "1G"}, "memory_limit must be a whole number of bytes from 32 MiB"),
        ({"isolation": "process", "cpu_limit": 0}, "cpu_limit=0 would end every run before it starts"),
        ({"isolation": "process", "process_limit": -1}, "process_limit must be a whole number from 0, not -1"),
        ({"isolation": "process", "open_file_limit": 8}, "open_file_limit must be a whole number from 32, not 8"),
        ({"isolation": "process", "file_size_limit": True}, "file_size_limit must be a whole number of bytes from 1"),
        ({"isolation": "process", "reuse": "often"}, "reuse must be 'principal', 'any' or 'never', not 'often'"),
        ({"idempotency": 7}, "idempotency must be a template, a list of argument names or a function, not 7"),
    ],
    ids=str,
)
def test_a_policy_that_cannot_work_is_refused_with_advice(policy: dict[str, Any], advice: str) -> None:
    with pytest.raises(PolicyError) as refused:
        TaskConfig(**policy)
    assert advice in str(refused.value)


def test_the_default_policy_is_optional_unlimited_and_never_retries() -> None:
    policy = TaskConfig()

    assert (policy.mode, policy.run_limit, policy.retry_delay(1), policy.queue) == ("optional", None, None, "default")
    assert (policy.kept_for, policy.polled_every) == (timedelta(hours=24), timedelta(seconds=1))


def test_durations_are_timedeltas_or_seconds() -> None:
    in_seconds = TaskConfig(timeout=90, retention=3600.5, poll_interval=0.25)
    as_deltas = TaskConfig(
        timeout=timedelta(seconds=90), retention=timedelta(seconds=3600.5), poll_interval=timedelta(seconds=0.25)
    )

    for policy in (in_seconds, as_deltas):
        assert policy.run_limit == timedelta(minutes=1.5)
        assert policy.kept_for == timedelta(hours=1, milliseconds=500)
        assert policy.polled_every == timedelta(milliseconds=250)


def test_a_retry_waits_twice_as_long_each_time_up_to_an_hour_and_then_there_is_none() -> None:
    policy = TaskConfig(retries=40, backoff=2)

    assert [policy.retry_delay(failures) for failures in (1, 2, 3, 11, 12, 40, 41)] == [
        timedelta(seconds=2),
        timedelta(seconds=4),
        timedelta(seconds=8),
        timedelta(seconds=2048),
        timedelta(hours=1),
        timedelta(hours=1),
        None,
    ]


def test_no_backoff_means_no_wait() -> None:
    assert TaskConfig(retries=3, backoff=0).retry_delay(3) == timedelta(0)


@given(backoff=st.timedeltas(min_value=timedelta(0)), failures=st.integers(1, 10_000))
def test_every_accepted_backoff_gives_a_delay_between_zero_and_an_hour(backoff: timedelta, failures: int) -> None:
    """Also absurdly long ones: the arithmetic must not raise in the worker that asks."""
    delay = TaskConfig(retries=10_000, backoff=backoff).retry_delay(failures)

    assert delay is not None
    assert timedelta(0) <= delay <= timedelta(hours=1)


@given(seconds=st.floats(allow_nan=True, allow_infinity=True) | st.integers())
def test_any_number_is_a_duration_or_a_policy_error(seconds: float) -> None:
    try:
        duration = as_timedelta(seconds, what="it")
    except PolicyError:
        return
    assert duration >= timedelta(0)


@pytest.mark.parametrize("scopes", ["rows", ["a b"], [""], ['"'], [7], ["é"]])
def test_scopes_that_no_token_can_have_are_refused(scopes: Any) -> None:
    with pytest.raises(PolicyError, match="scopes must be a list of names"):
        TaskConfig(scopes=scopes)


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("{order}-{line}", "idempotency names 'line', which is no argument of the tool: it has day, order"),
        (["month"], "idempotency names 'month', which is no argument of the tool: it has day, order"),
    ],
    ids=str,
)
def test_a_key_of_arguments_that_the_tool_does_not_have_is_refused(key: Any, advice: str) -> None:
    with pytest.raises(PolicyError) as refused:
        TaskConfig(idempotency=key).check_against(["day", "order"])
    assert str(refused.value) == advice


def test_a_key_function_that_would_have_to_be_awaited_is_refused() -> None:
    async def key(arguments: Any) -> str:
        return str(arguments)

    with pytest.raises(PolicyError, match="idempotency must be a plain function"):
        TaskConfig(idempotency=key)  # type: ignore[arg-type]  # the test is about exactly that


@pytest.mark.parametrize(
    ("policy", "lane"),
    [
        ({}, None),
        ({"concurrency_key": "{user}"}, Lane("key", 1)),
        ({"concurrency_key": "{user}", "concurrency_limit": 3}, Lane("key", 3)),
        ({"concurrency_limit": 3}, Lane("key", 3)),
        ({"rate_limit": (10, 60)}, Lane("key", 10, (10, 60_000), is_left_at_start=True)),
        ({"rate_limit": (10, timedelta(minutes=1)), "concurrency_limit": 2}, Lane("key", 2, (10, 60_000))),
    ],
    ids=str,
)
def test_a_policy_puts_its_tasks_in_a_lane_if_it_limits_them(policy: dict[str, Any], lane: Lane | None) -> None:
    assert TaskConfig(**policy).lane("key") == lane
