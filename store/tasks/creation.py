"""The arguments of the script `create`, the errors it can reply, and the record it makes."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from taskmill.engine.errors import BadArguments, CallerError, IdempotencyKeyReused, PayloadTooLarge, QuotaExceeded
from taskmill.engine.principal import PrincipalLimits
from taskmill.engine.record import Lane, NewTask, TaskRecord
from taskmill.engine.status import Status
from taskmill.store.connection.memory import Memory
from taskmill.store.formats.filters import stored_client
from taskmill.store.formats.json_text import write_json
from taskmill.store.formats.sealing import Sealer, args_field
from taskmill.store.settings import StoreSettings
from taskmill.store.tasks.arq_job import arq_job
from taskmill.store.tasks.schedules import firing_arg

__all__ = ["create_args", "create_error", "limits_of", "new_record", "pack_arguments", "sealed_answers"]

_RECORD = 1024
"""RECORD of `lua/prelude.lua`: bytes that a task counts at least."""


def create_args(
    task: NewTask,
    settings: StoreSettings,
    other_shards: tuple[int, int] = (0, 0),
    memory: Memory | None = None,
    *,
    signed: str = "",
) -> list[Any]:
    """ARGV of `create`; `other_shards`: open tasks there, of the principal and of all principals.

    `memory`: of this Redis, None = not known. `signed`: signature of owner, tool and list, empty without seal keys.

    Redis refuses an expiry of 0, so nothing is kept for less than a millisecond.
    """
    retention = max(1, _ms(settings.kept_for(task.retention)))
    poll = max(1, _ms(task.poll_interval))
    task_args = [task.id, task.payload, arq_job(task.id), task.tool, task.queue, task.principal, retention, poll]
    limits = limits_of(task, settings)
    quotas = [_rest(limits.open_tasks, other_shards[0]), _rest(settings.open_limit_total, other_shards[1])]
    return [
        *task_args,
        task.idempotency or "",
        *quotas,
        task.listed_for,
        task.rerun_of or "",
        task.idempotency_of,
        *_limits(task),
        *_ordering_args(task),
        *_kept_args(limits, memory),
        signed,
        task.not_before_ms or "",
        task.webhook,
        firing_arg(task.firing),
        stored_client(task.client_name),
    ]


def limits_of(task: NewTask, settings: StoreSettings) -> PrincipalLimits:
    """The limits of a task's owner."""
    return task.limits or settings.limits_of(task.principal)


def _kept_args(limits: PrincipalLimits, memory: Memory | None) -> list[int]:
    """Tasks and kilobytes that may be kept. Zeros, which need no command, where all of Redis is less than that."""
    least = min((size for size in (limits.kept_bytes, limits.kept_tasks * _RECORD) if size), default=0)
    if memory is not None and memory.used < least:
        return [0, 0]
    return [limits.kept_tasks, -(-limits.kept_bytes // 1024)]


def _rest(limit: int, other_shards: int) -> int:
    """How much of a quota is left for this Redis: 0 = no limit, -1 = nothing."""
    return limit and (limit - other_shards if other_shards < limit else -1)


def _limits(task: NewTask) -> list[Any]:
    return [task.retries or "", "" if task.deadline is None else _ms(task.deadline)]


def _ordering_args(task: NewTask) -> list[Any]:
    lane = task.lane
    return [task.priority, lane.key, lane.limit, _rate(lane) or ""] if lane else [task.priority, "", "", ""]


def create_error(reply: Sequence[Any], task: NewTask, settings: StoreSettings) -> CallerError:
    """The error to raise when `create` replied that it created nothing."""
    if reply[0] == b"reused":
        return IdempotencyKeyReused(task_id=reply[1].decode())
    which, allowed, used = reply[1].decode(), int(reply[2]), int(reply[3])
    if which in ("principal", "all"):
        is_theirs = which == "principal"
        name, whose = ("open_tasks", "You have") if is_theirs else ("all_open_tasks", "This server has")
        # On several shards the script was given what is left for this one.
        allowed = limits_of(task, settings).open_tasks if is_theirs else settings.open_limit_total
        words = f"{whose} {allowed:,} open tasks, the limit. Wait for one to end, or cancel one."
        return QuotaExceeded(words, limit=name, allowed=allowed, used=allowed, retry_after=5)
    wait = -(-int(reply[4]) // 1000)
    facts = {"retry_after": max(1, min(wait, 3600))}
    when = f"The first of them expires in {wait:,} s."
    if which == "tasks":
        words = f"{used:,} tasks of yours have ended and are kept; {allowed:,} is the limit. {when}"
        return QuotaExceeded(words, limit="kept_tasks", allowed=allowed, used=used, **facts)
    words = (
        f"With this call {used:,} kB of your arguments and results would be kept; {allowed:,} kB is the limit. {when} "
        "Send less, or ask for a shorter retention."
    )
    return QuotaExceeded(words, limit="kept_bytes", allowed=allowed * 1024, used=used * 1024, **facts)


def new_record(task: NewTask, settings: StoreSettings, now: int) -> TaskRecord:
    """The record right after the creation at `now`, milliseconds since 1970."""
    return TaskRecord(
        id=task.id,
        tool=task.tool,
        queue=task.queue,
        principal=task.principal,
        status=Status.PENDING,
        created_ms=now,
        updated_ms=now,
        seq=1,
        rerun_of=task.rerun_of,
        retries=task.retries,
        deadline_ms=None if task.deadline is None else now + _ms(task.deadline),
        not_before_ms=task.not_before_ms if (task.not_before_ms or 0) > now else None,
        retention_ms=max(1, _ms(settings.kept_for(task.retention))),
        poll_ms=max(1, _ms(task.poll_interval)),
        priority=task.priority,
        lane=task.lane.key if task.lane else None,
        lane_limit=task.lane.limit if task.lane else None,
        rate=_rate(task.lane) if task.lane else None,
        client=stored_client(task.client_name) or None,
    )


def _rate(lane: Lane) -> str | None:
    """The rate of a lane as scripts read it."""
    if lane.rate is None:
        return None
    return f"{lane.rate[0]}/{lane.rate[1]}" + ("/start" if lane.is_left_at_start else "")


def _ms(length: timedelta) -> int:
    return int(length.total_seconds() * 1000)


def pack_arguments(
    sealer: Sealer, limit: int, task_id: str, payload: Mapping[str, Any], *, tool: str, principal: str
) -> bytes:
    """Arguments and call context as they will be stored, in at most `limit` bytes: for this tool and owner alone.

    Raises:
        PayloadTooLarge, BadArguments: see `TaskStore.pack`.
    """
    try:
        sealed = sealer.seal_bytes(write_json(payload), task_id=task_id, field=args_field(tool, principal))
    except (TypeError, ValueError) as exc:
        raise BadArguments("The arguments hold a value or text that cannot be written as JSON.") from exc
    if len(sealed) > limit:
        raise PayloadTooLarge(
            f"The arguments are {len(sealed):,} bytes; this server accepts {limit:,}. Send a reference instead.",
            limit=limit,
        )
    return sealed


def sealed_answers(sealer: Sealer, task_id: str, answers: Mapping[str, Any]) -> list[Any]:
    """Key, answer, key, answer... as they will be stored.

    Raises:
        BadArguments: an answer is not JSON.
    """
    try:
        return [
            word
            for key, value in answers.items()
            for word in (key, sealer.seal(value, task_id=task_id, field=f"answer:{key}"))
        ]
    except (TypeError, ValueError) as exc:
        raise BadArguments("The answers hold a value or text that cannot be written as JSON.") from exc
