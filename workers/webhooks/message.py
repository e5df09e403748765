"""What a receiver gets: a JSON body, and the headers of the Standard Webhooks specification that sign it."""

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, assert_never

from taskmill.engine.outcome import Failed, OutcomeKind, Refused, Returned
from taskmill.engine.record import TaskView
from taskmill.store.formats.queue_names import app_of, author_queue, shared_app

__all__ = ["body_of", "signed_headers", "webhook_id"]

_LARGEST = 256 * 1024
"""Bytes of a body; a result that does not fit is left out."""


def webhook_id(task_id: str) -> str:
    """The same for every try, so that a receiver can drop what it has already had. A task ends once."""
    return f"ended_{task_id}"


def body_of(view: TaskView, *, with_result: bool) -> bytes:
    """The body: type, time, and facts of the task; never its arguments.

    `with_result`: also the result or the error, and in `omitted` why neither is there: `too_large` or `expired`.
    """
    facts = _facts(view)
    if not with_result:
        return _encoded(view, facts)
    result, error = _ending(view)
    is_expired = view.outcome is None and view.record.outcome_kind is not OutcomeKind.CANCELLED
    whole = _encoded(view, {**facts, "result": result, "error": error, "omitted": "expired" if is_expired else None})
    if len(whole) <= _LARGEST:
        return whole
    return _encoded(view, {**facts, "result": None, "error": None, "omitted": "too_large"})


def signed_headers(task_id: str, body: bytes, secrets: Sequence[bytes], now: float) -> dict[str, str]:
    """The headers of one try at `now`, seconds since 1970; with one signature for each secret."""
    name, at = webhook_id(task_id), str(int(now))
    signed = f"{name}.{at}.".encode() + body
    signatures = [base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode() for secret in secrets]
    return {
        "content-type": "application/json",
        "user-agent": "taskmill-webhooks",
        "webhook-id": name,
        "webhook-timestamp": at,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def _encoded(view: TaskView, data: dict[str, Any]) -> bytes:
    message = {"type": f"task.{view.record.outcome_kind}", "timestamp": _iso(view.record.ended_ms), "data": data}
    return json.dumps(message, separators=(",", ":")).encode()


def _facts(view: TaskView) -> dict[str, Any]:
    record = view.record
    return {
        "id": record.id,
        "tool": record.tool,
        "app": shared_app(app_of(record.queue)),
        "queue": author_queue(record.queue),
        "owner": record.principal,
        "status": record.status.value,
        "outcome": record.outcome_kind,
        "reason": record.reason,
        "attempts": record.attempt,
        "created_at": _iso(record.created_ms),
        "started_at": _iso(record.started_ms),
        "ended_at": _iso(record.ended_ms),
        "rerun_of": record.rerun_of,
    }


def _ending(view: TaskView) -> tuple[Any, Any]:
    """Result and error; one of them is None, or both."""
    match view.outcome:
        case Returned():
            return view.outcome.value, None
        case Refused():
            return None, {"message": view.outcome.message}
        case Failed():
            return None, {"message": view.outcome.text}
        case None:
            return None, None
        case _:
            assert_never(view.outcome)


def _iso(ms: int | None) -> str | None:
    """Milliseconds since 1970 as ISO 8601, in UTC."""
    if ms is None:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
