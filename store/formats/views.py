"""From what the store's scripts read of a task to the engine's view of it; opens what is sealed."""

from collections.abc import Sequence
from typing import Any

from taskmill.engine.errors import DecryptionFailed
from taskmill.engine.outcome import Failed, Fault, Outcome, outcome_from_json
from taskmill.engine.record import TaskRecord, TaskView
from taskmill.engine.status import Status
from taskmill.store.formats.paging import Slice
from taskmill.store.formats.records import dict_of, format_errors, record_of
from taskmill.store.formats.sealing import Sealer

__all__ = ["slice_of", "view_of"]


def view_of(
    task_id: str,
    sealer: Sealer,
    *,
    record: Sequence[bytes],
    outcome: bytes | None,
    questions: Sequence[bytes],
    ahead: int,
) -> TaskView:
    """The view; `record` and `questions` are flat, `ahead` is -1 where it means nothing.

    Raises:
        SealBroken: it cannot be read with these keys, or at all.
    """
    field = dict_of(record)
    stored = record_of(task_id, field)
    paused = field.get("paused") if stored.status is Status.PENDING else None
    return TaskView(
        stored,
        _outcome(stored, outcome, sealer),
        _asked(task_id, questions, sealer) if questions else {},
        ahead=ahead if ahead >= 0 and paused is None else None,
        rerun_as=field.get("rerun_as"),
        paused=paused,
    )


def slice_of(reply: Sequence[Any], sealer: Sealer) -> Slice:
    """What `page` replied."""
    behind, rows = reply
    views = (
        view_of(task_id.decode(), sealer, record=record, outcome=outcome, questions=(), ahead=ahead)
        for task_id, record, outcome, ahead, _score in rows
    )
    positions = ((row[4], row[0]) for row in rows)
    return Slice(tuple(zip(positions, views, strict=True)), tuple(behind) if behind else None)


def _outcome(record: TaskRecord, stored: bytes | None, sealer: Sealer) -> Outcome | None:
    if record.reason == "poisoned":
        return Failed(Fault.POISONED, f"Every worker that ran this task died ({record.crashes} times).")
    if record.reason == "drained":
        return Failed(Fault.DRAINED, f"Every worker that ran this task was stopped meanwhile ({record.drains} times).")
    if record.reason == "deadline" and stored is None:
        return Failed(Fault.DEADLINE, "The task had not ended at its deadline.")
    if stored is None:
        return None
    try:
        return outcome_from_json(sealer.open(stored, task_id=record.id, field="result"))
    except (DecryptionFailed, ValueError):
        return Failed(Fault.UNREADABLE, "The stored result cannot be opened with this server's keys.")


def _asked(task_id: str, questions: Sequence[bytes], sealer: Sealer) -> dict[str, dict[str, Any]]:
    """Open questions by key, in the order they were asked."""
    with format_errors(task_id):
        asked = {
            questions[i].decode(): _question(sealer.open(questions[i + 1], task_id=task_id, field="inputs"))
            for i in range(0, len(questions), 2)
        }
        return dict(sorted(asked.items(), key=_order))


def _question(asked: Any) -> dict[str, Any]:
    if not isinstance(asked, dict):
        raise ValueError("not a question")
    return asked


def _order(item: tuple[str, Any]) -> tuple[int, str]:
    number = item[0].rpartition("-")[2]
    return (int(number) if number.isdigit() else 0, item[0])
