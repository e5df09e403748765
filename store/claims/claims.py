"""The store as workers use it: claim, renew, progress, ask, release, park, finish - batched where a worker can batch.

A *batch* is one round trip: all calls of a worker, and its claim of new work behind them.
"""

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, assert_never

from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from taskmill.engine.errors import FenceLost, QuestionMismatch
from taskmill.engine.events import AttemptError, LogMessage
from taskmill.engine.outcome import Failed, Fault, Outcome, Refused, Returned, outcome_to_json
from taskmill.engine.record import Progress
from taskmill.engine.status import Move
from taskmill.store.claims.batching import batched, unbatched
from taskmill.store.connection.client import store_errors
from taskmill.store.formats.attempt_errors import ERRORS_KEPT, pack_error
from taskmill.store.formats.log_messages import pack_log
from taskmill.store.formats.sealing import args_field
from taskmill.store.scripts import Call, Scripts
from taskmill.store.seal_keys import sealer_of
from taskmill.store.settings import StoreSettings
from taskmill.store.tasks.pauses import PauseStore
from taskmill.store.tasks.stats import live_workers

__all__ = ["ClaimStore", "Claimed", "Claims", "Question", "Reserve"]

_CLAIM_LIMIT = 1000
"""Tasks of one claim: Lua cannot pass longer lists to a command, and Redis should serve other clients in between."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A task this worker may run, until its lease ends."""

    id: str
    fence: int
    attempt: int
    crashes: int
    failures: int
    tool: str
    principal: str
    stored: bytes | None
    """Arguments as stored; None when another program deleted them."""
    time_left: timedelta | None = None
    """Until the task must have ended, from the claim on; None = no limit."""
    waited_ms: int | None = field(default=None, compare=False)
    """For how long it could have been claimed; None = not known, or it was taken over."""
    is_rescue: bool = False
    """Whether another worker had it, whose lease has lapsed."""


@dataclass(frozen=True, slots=True)
class Claims:
    """The reply to a claim."""

    tasks: list[Claimed]
    wait_ms: int | None
    """Until something else is due: 0 = now, None = nothing is queued."""
    look_next: int | None = None
    """Where to look next time; None = no task was left for want of a slot that is not reserved."""


@dataclass(frozen=True, slots=True)
class Reserve:
    """Which of the slots of a claim are only for principals that have nothing running on the worker."""

    slots: int
    """How many."""
    holders: tuple[str, ...]
    """The principals that have something running."""
    look_from: int = 0
    """Rank in the queue to look for such tasks, besides its head."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question of one attempt, by a key that no other question of the task has."""

    key: str
    digest: str
    """Of the request: a later attempt must ask the same."""
    request: dict[str, Any]


class ClaimStore:
    """The tasks of one deployment, from a worker's side."""

    def __init__(self, redis: Redis, settings: StoreSettings, worker: str) -> None:
        self._redis = redis
        self._settings = settings
        self._worker = worker
        self.keys = settings.keys()
        self.scripts = Scripts(self.keys)
        self._sealer = sealer_of(settings)
        self._rotation = 0

    def claim_call(
        self,
        queue: str,
        room: int,
        *,
        batch_id: str = "",
        sender: int = 0,
        ids: Sequence[str] = (),
        reserve: Reserve | None = None,
    ) -> Call:
        """Take up to `room` due tasks of a queue, a thousand at most, or just `ids`.

        The same call again with the same `batch_id` gives what the first one took, as long as no later one was sent by
        that `sender`; without a `batch_id` it takes more. With no `room` it takes nothing, and no later call with that
        `batch_id` does. `reserve`: slots that not every task may have.
        """
        keys = [self.keys.last_claim(f"{self._worker}:{sender}")]
        slots: int | str = min(room, _CLAIM_LIMIT)
        if reserve is not None and reserve.slots:
            slots = f"{slots} {reserve.slots} {reserve.look_from} {' '.join(reserve.holders)}"
        limits = [self._settings.lease_ms, slots, self._settings.crash_limit]
        nothing_finished = 0
        return "claim", keys, [self._rotated(queue), self._worker, *limits, batch_id, nothing_finished, *ids]

    def _rotated(self, queues: str) -> str:
        """The queue names, each call beginning with the next: no queue is always read last."""
        names = queues.split(",")
        if len(names) == 1:
            return queues
        self._rotation = (self._rotation + 1) % len(names)
        return ",".join(names[self._rotation :] + names[: self._rotation])

    def renew_call(self, held: Sequence[tuple[str, int]]) -> Call:
        """Keep the leases of (id, fence) pairs."""
        return "renew", [], [self._settings.lease_ms, *(word for pair in held for word in pair)]

    def progress_call(self, reports: Sequence[tuple[str, int, Progress]]) -> Call:
        """Keep the latest progress of (id, fence, progress) triples."""
        args: list[Any] = []
        for task_id, fence, calls in reports:
            message = self._sealer.seal_text(calls.message or "", task_id=task_id, field="progress")
            args += [task_id, fence, _number(calls.done), _number(calls.total), message]
        return "progress", [], args

    def log_call(self, task_id: str, fence: int, messages: Sequence[LogMessage]) -> Call:
        """Pass log messages to those who follow the task at the moment.

        Raises:
            TypeError, ValueError: one of them is not JSON.
        """
        return "log", [], [task_id, fence, pack_log(self._sealer, task_id, messages)]

    def finish_call(self, task_id: str, fence: int, outcome: Outcome, *, reason: str | None = None) -> Call:
        """End a task. An outcome that cannot be stored - too large, not JSON - becomes a failure that explains it.

        `reason`: why there is no success, None = taken from the outcome.
        """
        try:
            stored = self._sealer.seal(outcome_to_json(outcome), task_id=task_id, field="result")
            fault = _too_large(len(stored), self._settings.max_result)
        except (TypeError, ValueError):
            stored, fault = b"", Failed(Fault.NOT_JSON, "The tool's result cannot be written as JSON.")
        if fault is not None:
            outcome, reason = fault, None
            stored = self._sealer.seal(outcome_to_json(fault), task_id=task_id, field="result")
        move = Move.COMPLETE if isinstance(outcome, Returned) else Move.FAIL
        return "finish", [], [task_id, fence, move, stored, _reason(outcome) if reason is None else reason]

    def release_call(self, task_id: str, fence: int, *, delay: timedelta, failures: int, reason: str) -> Call:
        """Give a task back, to be run after `delay`. One that too many drains gave back fails instead."""
        wait = int(delay.total_seconds() * 1000)
        return (
            "release",
            [self.keys.record(task_id)],
            [
                task_id,
                fence,
                wait,
                failures,
                reason,
                self._settings.drain_limit,
            ],
        )

    def error_call(self, task_id: str, fence: int, attempt: int, error: AttemptError) -> Call:
        """Keep why an attempt failed, for operators. It is cut to what is kept of one."""
        here = replace(error, worker=self._worker, host=socket.gethostname(), pid=os.getpid())
        stored = pack_error(self._sealer, task_id, attempt, here)
        return "save_error", [self.keys.errors(task_id)], [task_id, fence, attempt, stored, ERRORS_KEPT]

    def park_call(self, task_id: str, fence: int) -> Call:
        """Let go of a task that only waits for answers; the last answer queues it again."""
        return "park", [], [task_id, fence]

    async def run_batch(self, calls: Sequence[Call], claim: Call | None = None) -> tuple[list[Any], Claims | None]:
        """Send all calls and claim, in one round trip. Safe to repeat when the reply was lost.

        Raises:
            StoreUnavailable: the store did not answer; nothing or all may have happened.
        """
        with store_errors():
            replies = await self.scripts.run_many(self._redis, batched(calls, claim))
            return unbatched(calls, replies, with_claim=claim is not None), _claims(replies[-1]) if claim else None

    def claims_of(self, reply: Any) -> Claims | None:
        """The reply to a claim that was sent as a command; None = it was not made, for Redis did not know the script.

        Raises:
            StoreUnavailable, OperatorError: Redis refused it.
        """
        if isinstance(reply, NoScriptError):
            return None
        with store_errors():
            if isinstance(reply, Exception):
                raise reply
        return _claims(reply)

    def arguments(self, task: Claimed) -> Mapping[str, Any]:
        """The payload the server stored at creation.

        Raises:
            SealBroken, ValueError: it cannot be opened or read.
        """
        if task.stored is None:
            raise ValueError("the stored arguments are gone")
        payload = self._sealer.open(task.stored, task_id=task.id, field=args_field(task.tool, task.principal))
        if not isinstance(payload, dict):
            raise ValueError("the stored arguments are not an object")
        return payload

    async def ask(self, task_id: str, fence: int, questions: Sequence[Question]) -> list[dict[str, Any] | None]:
        """Put questions; for each the answer if there is one already, else None.

        Raises:
            FenceLost: the task is another worker's now, or has ended.
            QuestionMismatch: an earlier attempt asked something else under one of the keys.
        """
        args: list[Any] = [task_id, fence]
        for question in questions:
            sealed = self._sealer.seal(question.request, task_id=task_id, field=f"question:{question.key}")
            args += [question.key, question.digest, sealed]
        with store_errors():
            reply = await self.scripts.run(self._redis, "ask", [self.keys.inputs(task_id)], args)
        if reply[0] == b"lost":
            raise FenceLost(task_id=task_id)
        if reply[0] == b"mismatch":
            raise QuestionMismatch(f"Question {reply[1].decode()} differs from the one asked before.", task_id=task_id)
        return self._opened_answers(task_id, [question.key for question in questions], reply[1:])

    async def answers(self, task_id: str, keys: Sequence[str]) -> list[dict[str, Any] | None]:
        """The answers given so far, in the order of `keys`."""
        with store_errors():
            found: list[Any] = await self._redis.hmget(  # type: ignore[misc]  # redis-py types both its clients as one
                self.keys.inputs(task_id), [f"a:{key}" for key in keys]
            )
        return self._opened_answers(task_id, keys, found)

    def _opened_answers(
        self, task_id: str, keys: Sequence[str], stored: Sequence[bytes | None]
    ) -> list[dict[str, Any] | None]:
        return [
            self._sealer.open(answer, task_id=task_id, field=f"answer:{key}") if answer else None
            for key, answer in zip(keys, stored, strict=True)
        ]

    async def is_open(self, task_id: str) -> bool:
        """True while the task exists and has not ended."""
        with store_errors():
            return await self._redis.zscore(self.keys.live, task_id) is not None

    async def workers(self) -> list[dict[str, Any]]:
        """What each live worker reports of itself."""
        with store_errors():
            return await live_workers(self._redis, self.keys)

    async def queues_of_open_tasks(self, first: int, count: int) -> tuple[set[str], bool]:
        """See `PauseStore.queues_of_open_tasks`."""
        return await PauseStore(self._redis, self.scripts, self.keys).queues_of_open_tasks(first, count)

    async def reconcile(self, every: timedelta, *, chunk: int = 1000) -> int | None:
        """Repair open tasks missing from their queue; how many repairs were made, None = another worker did it."""
        with store_errors():
            lock_ms = int(every / timedelta(milliseconds=1))
            if not await self._redis.set(self.keys.reconciling, self._worker, nx=True, px=lock_ms):
                return None
            first, repaired_total = 0, 0
            while True:
                args = [first, first + chunk - 1, self._settings.lease_ms]
                looked, repaired = await self.scripts.run(self._redis, "reconcile", [self.keys.live], args)
                repaired_total += int(repaired)
                first += chunk
                if looked < chunk:
                    return repaired_total


def _claims(reply: Any) -> Claims:
    _, wait, rows, payloads, look_next, _ = reply
    tasks = [
        Claimed(
            id=row[0].decode(),
            fence=row[1],
            attempt=row[2],
            crashes=row[3],
            failures=row[4],
            tool=row[5].decode(),
            principal=row[6].decode(),
            stored=stored,
            time_left=None if row[7] < 0 else timedelta(milliseconds=row[7]),
            waited_ms=None if row[8] < 0 else row[8],
            is_rescue=row[8] == -1,
        )
        for row, stored in zip(rows, payloads, strict=True)
    ]
    return Claims(tasks, None if wait < 0 else wait, None if look_next < 0 else look_next)


def _number(value: float | None) -> str:
    return "" if value is None else repr(float(value))


def _reason(outcome: Outcome) -> str:
    """Why there is no success; empty for one, and where the tool's own protocol error gives the reason."""
    match outcome:
        case Returned():
            return "tool_error" if outcome.is_error else ""
        case Failed():
            return outcome.fault.value
        case Refused():
            return ""
        case _:
            assert_never(outcome)


def _too_large(size: int, limit: int) -> Failed | None:
    if size <= limit:
        return None
    text = f"The tool's result is {size:,} bytes; the limit is {limit:,}. Return less, or a reference to it."
    return Failed(Fault.TOO_LARGE, text)
