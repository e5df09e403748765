"""From what the store's scripts read of a task to the engine's view of it; opens what is sealed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from time import time
from typing import Any

from taskmill.engine.errors import DecryptionFailed, SealKeyAwaited, SealKeyMissing
from taskmill.engine.outcome import Failed, Fault, Outcome, outcome_from_json
from taskmill.engine.record import Progress, TaskRecord, TaskView
from taskmill.engine.status import Status
from taskmill.store.formats.keys import DEAD_LETTERS
from taskmill.store.formats.paging import Slice
from taskmill.store.formats.records import dict_of, format_errors, record_of
from taskmill.store.formats.sealing import Sealer, refusals

__all__ = ["CHANGED", "UNREADABLE", "is_unreadable", "progress_message", "slice_of", "view_of"]

UNREADABLE = Fault.UNREADABLE.value
"""Reason of a task whose result is refused, and field of its record once a reader has noticed it, for lists."""
CHANGED = Failed(Fault.UNREADABLE, "The stored result was refused: it is not what the worker wrote.")
_KEYLESS = Failed(Fault.UNREADABLE, "The stored result cannot be opened with this server's keys.")


def view_of(
    task_id: str,
    sealer: Sealer,
    *,
    record: Sequence[bytes],
    outcome: bytes | None,
    questions: Sequence[bytes],
    ahead: int,
    in_list: bool = False,
) -> TaskView:
    """The view; `record` and `questions` are flat, `ahead` is -1 where it means nothing.

    `in_list`: whether results were not read, except those of failed tasks.

    Raises:
        DecryptionFailed: it cannot be read with these keys, or at all. A result that cannot makes a failed task.
    """
    field = dict_of(record)
    stored = record_of(task_id, field)
    try:
        found = _checked(stored, field, outcome, sealer)
    except DecryptionFailed as exc:
        if not stored.is_terminal or isinstance(exc, SealKeyAwaited):
            raise
        found = _KEYLESS if isinstance(exc, SealKeyMissing) else CHANGED
    if found is None and (UNREADABLE in field if in_list else stored.status is Status.COMPLETED):
        found = CHANGED  # where it was read, the result is gone
    if is_unreadable(found):
        stored = replace(stored, status=Status.FAILED, reason=UNREADABLE, progress=Progress())
    elif stored.progress.message:
        message = progress_message(sealer, task_id, stored.progress.message)
        stored = replace(stored, progress=replace(stored.progress, message=message))
    paused = field.get("paused") if stored.status is Status.PENDING else None
    return TaskView(
        stored,
        found,
        _asked(task_id, questions, sealer) if questions else {},
        ahead=ahead if ahead >= 0 and paused is None and not _is_delayed(stored) else None,
        rerun_as=field.get("rerun_as"),
        paused=paused,
    )


def slice_of(reply: Sequence[Any], sealer: Sealer, list_owner: str) -> Slice:
    """What `page` replied of this owner's list. With keys, only tasks that were created for that list are shown."""
    behind, rows = reply
    shown = []
    for task_id, record, outcome, ahead, score in rows:
        try:
            read = {"record": record, "outcome": outcome, "questions": (), "ahead": ahead}
            view = view_of(task_id.decode(), sealer, **read, in_list=True)
        except SealKeyAwaited:
            raise
        except DecryptionFailed as exc:  # the rest of the list can be read
            refusals.note(task_id.decode(), "record", str(exc))
            continue
        if not sealer.has_keys or _is_listed(record, list_owner):
            shown.append(((score, task_id), view))
    return Slice(tuple(shown), tuple(behind) if behind else None)


def is_unreadable(outcome: Outcome | None) -> bool:
    """Whether it stands for a result that was refused, and is not what a worker wrote."""
    return outcome is CHANGED or outcome is _KEYLESS


def progress_message(sealer: Sealer, task_id: str, stored: str) -> str | None:
    """The text of a report of progress; None where it is refused, which is in the log."""
    try:
        return sealer.open_text(stored, task_id=task_id, field="progress")
    except DecryptionFailed:
        return None


def _is_delayed(record: TaskRecord) -> bool:
    """Whether it has no position yet, by this machine's clock."""
    return (record.next_start_ms or 0) > time() * 1000


def _is_listed(record: Sequence[bytes], list_owner: str) -> bool:
    return list_owner in ("", DEAD_LETTERS) or dict_of(record).get("listed_for", "") == list_owner


def _checked(record: TaskRecord, field: Mapping[str, str], outcome: bytes | None, sealer: Sealer) -> Outcome | None:
    """The outcome of a task whose owner, tool and list are those that it was created with.

    Raises:
        DecryptionFailed: they are not, or the outcome is refused.
    """
    signed = (record.principal, record.tool, field.get("listed_for", ""))
    sealer.check(field.get("signed", ""), record.id, *signed)
    return _outcome(record, outcome, sealer)


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
    except ValueError as exc:
        raise sealer.refusal(record.id, "result", "no outcome that a worker wrote") from exc


def _asked(task_id: str, questions: Sequence[bytes], sealer: Sealer) -> dict[str, dict[str, Any]]:
    """Open questions by key, in the order they were asked."""
    with format_errors(task_id):
        asked = {
            key: _question(sealer.open(stored, task_id=task_id, field=f"question:{key}"))
            for key, stored in _pairs(questions)
        }
        return dict(sorted(asked.items(), key=_order))


def _pairs(flat: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
    words = iter(flat)
    return ((key.decode(), value) for key, value in zip(words, words, strict=True))


def _question(asked: Any) -> dict[str, Any]:
    if not isinstance(asked, dict):
        raise ValueError("not a question")
    return asked


def _order(item: tuple[str, Any]) -> tuple[int, str]:
    number = item[0].rpartition("-")[2]
    return (int(number) if number.isdigit() else 0, item[0])
