"""The task that repeats an ended one."""

import hashlib
import hmac
from datetime import timedelta

from taskmill.engine.errors import NotRepeatable
from taskmill.engine.principal import as_task_id
from taskmill.engine.record import Lane, NewTask, TaskRecord
from taskmill.store.formats.queue_names import app_of, author_queue, qualified_queue, shared_app

__all__ = ["check_rerunnable", "rerun_id", "rerun_task"]


def check_rerunnable(record: TaskRecord, stored: bytes | None) -> None:
    """`stored`: its arguments as they were kept, None = not any more.

    Raises:
        NotRepeatable: it has not ended, or it succeeded, so that its arguments were deleted.
    """
    if not record.is_terminal:
        raise NotRepeatable("The task has not ended yet. Wait for it, or cancel it first.", task_id=record.id)
    if stored is None:
        words = "The task succeeded, so its arguments were not kept. Call the tool again."
        raise NotRepeatable(words, task_id=record.id)


def rerun_task(record: TaskRecord, task_id: str, payload: bytes, *, listed_for: str, webhook: str) -> NewTask:
    """The task that repeats an ended one."""
    return NewTask(
        id=task_id,
        tool=record.tool,
        principal=record.principal,
        payload=payload,
        queue=qualified_queue(shared_app(app_of(record.queue)), author_queue(record.queue)),
        retention=timedelta(milliseconds=record.retention_ms),
        poll_interval=timedelta(milliseconds=record.poll_ms),
        retries=record.retries,
        deadline=None if record.deadline_ms is None else timedelta(milliseconds=record.deadline_ms - record.created_ms),
        listed_for=listed_for,
        webhook=webhook,
        rerun_of=record.id,
        client="rerun",
        client_name=record.client or "",
        priority=record.priority,
        lane=_lane(record),
    )


def rerun_id(secret: bytes, task_id: str, once: str) -> str:
    """Id of the task that repeats this one: with `once` the same each time, and as hard to guess as a fresh one.

    An idempotency key would not do: it is free again when its task has failed, and a repeated task may fail at once.
    """
    named = hmac.digest(
        secret, b"\0".join((b"rerun", task_id.encode(), once.encode("utf-8", "surrogatepass"))), hashlib.sha256
    )
    return as_task_id(named)


def _lane(record: TaskRecord) -> Lane | None:
    if record.lane is None or record.lane_limit is None:
        return None
    if record.rate is None:
        return Lane(record.lane, record.lane_limit)
    starts, period, *is_left = record.rate.split("/")
    return Lane(record.lane, record.lane_limit, (int(starts), int(period)), is_left_at_start=bool(is_left))
