"""What a record computes, and that it cannot be changed in place."""

from dataclasses import FrozenInstanceError, replace

import pytest

from taskmill.engine.record import Progress, TaskRecord
from taskmill.engine.status import Status

OPEN = TaskRecord(
    id="t",
    tool="count",
    queue="default",
    principal="anonymous",
    status=Status.RUNNING,
    created_ms=1000,
    updated_ms=1500,
    seq=2,
    retention_ms=60_000,
)


@pytest.mark.parametrize(
    ("progress", "percent"),
    [
        (Progress(), None),
        (Progress(1), None),
        (Progress(None, 4), None),
        (Progress(1, 0), None),
        (Progress(1, -4), None),
        (Progress(0, 4), 0),
        (Progress(1, 3), 33),
        (Progress(3.999, 4), 99),
        (Progress(4, 4), 100),
        (Progress(5, 4), 100),
        (Progress(-1, 4), 0),
        (Progress(1e308, 1e-308), 100),
    ],
    ids=str,
)
def test_percent_is_whole_within_bounds_and_none_while_unknown(progress: Progress, percent: int | None) -> None:
    assert progress.percent == percent


def test_an_open_task_cannot_expire_and_an_ended_one_is_kept_for_its_retention_after_the_end() -> None:
    """While a task is open, its TTL must lie after its end; retention starts at the end."""
    ended = replace(OPEN, status=Status.COMPLETED, ended_ms=9000)

    assert (OPEN.is_terminal, OPEN.ttl_ms) == (False, None)
    assert (ended.is_terminal, ended.ttl_ms) == (True, 68_000)


def test_a_record_cannot_be_changed_in_place() -> None:
    with pytest.raises(FrozenInstanceError):
        OPEN.status = Status.CANCELLED  # type: ignore[misc]
