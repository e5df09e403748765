"""Errors of attempts as they are stored: JSON within a limit, sealed like every payload."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace

from taskmill.engine.errors import DecryptionFailed
from taskmill.engine.events import AttemptError
from taskmill.engine.outcome import OutcomeKind
from taskmill.engine.record import TaskRecord
from taskmill.store.formats.sealing import Sealer

__all__ = ["ERRORS_KEPT", "ERROR_BYTES", "errors_for_caller", "may_have_errors", "open_error", "pack_error"]

ERRORS_KEPT = 10
"""Of one task: those of its last attempts."""
ERROR_BYTES = 16_000
"""Of one error as it is stored, at most. The limits below, names and numbers are together less than that."""
_LIMITS = {"type": 300, "text": 3000, "traceback": 11_000, "worker": 400, "host": 300, "reference": 100}
"""Bytes of JSON of each text."""


def pack_error(sealer: Sealer, task_id: str, attempt: int, error: AttemptError) -> bytes:
    """The error as it will be stored, each text cut in its middle to what is kept of it."""
    fitted = {name: _fitted(getattr(error, name), limit) for name, limit in _LIMITS.items()}
    return sealer.seal({**asdict(error), **fitted}, task_id=task_id, field=f"error:{attempt}")


def open_error(sealer: Sealer, task_id: str, attempt: int, stored: bytes) -> AttemptError:
    """The error again; one that cannot be opened says so."""
    try:
        return replace(AttemptError("", ""), **sealer.open(stored, task_id=task_id, field=f"error:{attempt}"))
    except (DecryptionFailed, TypeError):
        return AttemptError("", "The stored error cannot be opened with these TASKMILL_SEAL_KEYS.")


def may_have_errors(record: TaskRecord) -> bool:
    """Whether an attempt of the task may have failed, so that a look for its error is worth a round trip."""
    return bool(record.failures) or record.outcome_kind in (OutcomeKind.CRASHED, OutcomeKind.FAILED)


def errors_for_caller(errors: Mapping[int, AttemptError], *, with_traceback: bool) -> dict[int, AttemptError]:
    """The errors without what is for operators only: where the worker ran, and perhaps the traceback."""
    return {
        attempt: replace(error, traceback=error.traceback if with_traceback else "", worker="", host="", pid=0)
        for attempt, error in sorted(errors.items())
    }


def _fitted(text: str, limit: int) -> str:
    """The text, or its two ends, so that its JSON has at most `limit` bytes. Half characters are escaped."""
    room = limit
    while True:
        shown = text
        if len(text) > room:
            head = room // 3
            left_out = f"\n[{len(text) - room} characters left out]\n"
            shown = text[:head] + left_out + text[len(text) - (room - head) :]
        shown = shown.encode(errors="backslashreplace").decode()
        size = len(json.dumps(shown, ensure_ascii=False).encode())
        if size <= limit:
            return shown
        room = min(room - 1, min(room, len(text)) * limit // size)
