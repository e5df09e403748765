"""From Redis replies to the engine's records and artifacts, and nothing else. Events are in `events.py`."""

from collections.abc import Mapping, Sequence
from types import TracebackType

from taskmill.engine.artifact import Artifact
from taskmill.engine.errors import DecryptionFailed
from taskmill.engine.record import Progress, TaskRecord
from taskmill.engine.status import Status

__all__ = ["artifact_of", "dict_of", "format_errors", "parse_count", "record_of", "typed"]

_NUMBERS = frozenset(
    {"fence", "attempt", "crashes", "drains", "failures", "retries", "questions", "priority", "lane_limit"}
)
_TIMES = (
    *("created_ms", "updated_ms", "started_ms", "ended_ms", "due_ms", "not_before_ms", "deadline_ms"),
    *("retention_ms", "poll_ms"),
)
_FIGURES = (*_NUMBERS, *_TIMES)
"""Of a record."""
_STATUSES = {status.value: status for status in Status}
_FLOATS = frozenset({"done", "total"})
_MOST = 10**14
"""More than any count, and milliseconds up to the year 5138: the sum of two of them is still a date."""
_DIGITS = 15
_BROKEN = (LookupError, ValueError, TypeError, AttributeError, OverflowError)


class format_errors:
    """Turns every failure to read what Redis has into one error.

    Raises:
        SealBroken: another program changed it, or another version wrote it.
    """

    __slots__ = ("_task_id",)

    def __init__(self, task_id: str = "") -> None:
        self._task_id = task_id

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, exc: BaseException | None, _trace: TracebackType | None) -> None:
        if isinstance(exc, _BROKEN):
            raise DecryptionFailed(
                "What is stored cannot be read: it was changed, or is of another version.", task_id=self._task_id
            ) from exc


def parse_count(value: str) -> int:
    """A number that counts something.

    Raises:
        ValueError: it is none, negative, or larger than anything can be here.
    """
    number = _parse_int(value)
    if number < 0:
        raise ValueError("negative")
    return number


def dict_of(flat: Sequence[bytes]) -> dict[str, str]:
    """A flat name, value list as a dict.

    Raises:
        SealBroken: it cannot be read.
    """
    with format_errors():
        words = map(bytes.decode, flat)
        return dict(zip(words, words, strict=True))


def record_of(task_id: str, field: Mapping[str, str]) -> TaskRecord:
    """The record in a hash; an empty value reads as None.

    Raises:
        SealBroken: it cannot be read.
    """
    with format_errors(task_id):
        number = {name: _parse_int(value) for name in _FIGURES if (value := field.get(name))}
        return TaskRecord(
            id=task_id,
            tool=field["tool"],
            queue=field["queue"],
            principal=field["principal"],
            status=_STATUSES[field["status"]],
            created_ms=number["created_ms"],
            updated_ms=number["updated_ms"],
            seq=parse_count(field["seq"]),
            fence=number["fence"],
            attempt=number["attempt"],
            crashes=number.get("crashes", 0),
            drains=number.get("drains", 0),
            failures=number.get("failures", 0),
            retries=number.get("retries", 0),
            deadline_ms=number.get("deadline_ms"),
            worker=field.get("worker") or None,
            started_ms=number.get("started_ms"),
            ended_ms=number.get("ended_ms"),
            due_ms=number.get("due_ms"),
            not_before_ms=number.get("not_before_ms"),
            reason=field.get("reason") or None,
            rerun_of=field.get("rerun_of"),
            progress=_progress(field),
            questions=number.get("questions", 0),
            retention_ms=number["retention_ms"],
            poll_ms=number["poll_ms"],
            priority=number.get("priority", 0),
            lane=field.get("lane"),
            lane_limit=number.get("lane_limit"),
            rate=field.get("rate"),
            client=field.get("client"),
        )


def artifact_of(artifact_id: str, known: Mapping[str, str]) -> Artifact:
    """The artifact with these fields.

    Raises:
        SealBroken: it cannot be read.
    """
    with format_errors():
        return Artifact(
            id=artifact_id,
            task_id=known["task"],
            principal=known["principal"],
            name=known["name"],
            mime_type=known["mime"],
            size=parse_count(known["size"]),
            digest=known["digest"],
            place=known["place"],
            sealed=known["sealed"] == "1",
        )


def _parse_int(value: str) -> int:
    """A whole number as scripts write it, which may be `1e+15`."""
    if len(value) < _DIGITS and value.isdigit():
        return int(value)
    number = float(value)
    if not -_MOST <= number <= _MOST:
        raise ValueError("no number that we wrote")
    return int(number)


def _is_number(name: str) -> bool:
    return name in _NUMBERS or name.endswith("_ms")


def typed(name: str, value: str) -> str | int | float | None:
    """The value of a field by its name; an empty one is None.

    Raises:
        ValueError: it is no such value.
    """
    if value == "":
        return None
    if _is_number(name):
        return _parse_int(value)
    return float(value) if name in _FLOATS else value


def _progress(field: Mapping[str, str]) -> Progress:
    done, total = field.get("done"), field.get("total")
    return Progress(float(done) if done else None, float(total) if total else None, field.get("message") or None)
