"""A worker that lacks a key: another one may have it, so the task is not given up at once."""

from datetime import timedelta
from typing import Any

import pytest

from taskmill.engine.errors import DecryptionFailed, SealKeyMissing
from taskmill.engine.outcome import Failed, Fault
from taskmill.engine.policy import TaskConfig
from taskmill.store.claims.claims import Claimed
from taskmill.workers.attempts.endings import Finish, Release, decide

NONE: Any = None
"""No toolbox is asked."""


def claimed(attempt: int) -> Claimed:
    return Claimed("t", attempt, attempt, 0, 2, "dig", "ann", b"")


@pytest.mark.parametrize("attempt", [1, 12])
def test_a_task_whose_key_is_missing_is_offered_to_others_for_a_minute(attempt: int) -> None:
    ending = decide(claimed(attempt), TaskConfig(), NONE, SealKeyMissing())

    assert ending == Release(claimed(attempt), timedelta(seconds=5), 2, "seal_key_missing")


@pytest.mark.parametrize(
    ("attempt", "error", "left"),
    [(13, SealKeyMissing(), None), (1, DecryptionFailed(), None), (1, SealKeyMissing(), timedelta(seconds=4))],
    ids=["later", "changed", "at its deadline"],
)
def test_then_it_fails_and_one_that_was_changed_fails_at_once(
    attempt: int, error: DecryptionFailed, left: timedelta | None
) -> None:
    ending = decide(claimed(attempt), TaskConfig(), NONE, error, left)

    assert isinstance(ending, Finish)
    assert isinstance(ending.outcome, Failed)
    assert ending.outcome.fault is Fault.UNREADABLE
