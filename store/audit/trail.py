"""The audit trail of one process: takes records, counts repeated refusals, and writes to every sink of the settings.

`AuditTrail.leave` never waits: a log line and a line of a file are written at once; what goes to Redis is sent soon
afterwards, many records at a time. Records that a sink does not take are counted, and the count is recorded when it
takes some again.
"""

import asyncio
import json
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any, Self

import structlog

from taskmill.engine.errors import StoreUnavailable
from taskmill.store.audit.file import AuditFile
from taskmill.store.audit.records import Action, ActorFacts, ActorKind, AuditRecord, Outcome
from taskmill.store.audit.stream import AuditStream
from taskmill.store.formats.audit_sinks import FILE, LOG, REDIS, sinks_of
from taskmill.store.settings import StoreSettings

__all__ = ["AuditTrail"]

# Not filtered by level: who asks for the trail gets all of it, also with TASKMILL_LOG_LEVEL=error.
audit_log: Any = structlog.wrap_logger(None, wrapper_class=structlog.BoundLogger)
log = structlog.get_logger()

_AT_ONCE = 20
"""Refusals of one kind by one caller in a second that have a line each; the others of that second share one."""
_KINDS = 10_000
"""Kinds of refusals that are counted apart within a second: one who makes up callers would fill the memory."""
_WINDOW = 1.0
_WAITING = 10_000
"""Records that wait for Redis; then the oldest are lost."""
_BATCH = 500
_RETRY_DELAY = 0.5
_CLOSE_TIMEOUT = 2.0
_SYSTEM = ActorFacts(ActorKind.SYSTEM)
_Kind = tuple[Any, ...]


class AuditTrail:
    """Where the records of a process go, while the block is open."""

    def __init__(self, settings: StoreSettings, stream: AuditStream | None, *, also_redis: bool = False) -> None:
        """`stream`: None = this process has no Redis. `also_redis`: write there even if the settings do not name it.

        Raises:
            SettingsError: a file cannot be opened.
        """
        sinks = sinks_of(settings.audit)
        self._logs = any(kind == LOG for kind, _ in sinks)
        self._files = [AuditFile(Path(path)) for kind, path in sinks if kind == FILE]
        self._lost_of_file = dict.fromkeys(self._files, 0)
        wants_redis = also_redis or any(kind == REDIS for kind, _ in sinks)
        if wants_redis and stream is None:
            log.warning("audit.no_redis", hint="this server has no task tools and no TASKMILL_REDIS_URL")
        self._stream = stream if wants_redis else None
        self._waiting: deque[bytes] = deque()
        self._sending: list[bytes] = []
        self._lost = 0
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._seen: dict[_Kind, list[Any]] = {}
        self._window_ends = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        """Begin to send to Redis, and to write what was counted."""
        self._tasks.append(asyncio.create_task(self._end_windows(), name="taskmill.audit-counts"))
        if self._stream is not None:
            self._tasks.append(asyncio.create_task(self._send(self._stream), name="taskmill.audit"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is left, for a moment; what Redis does not take in it is lost, and logged."""
        self._write_counts()
        if self._stream is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_TIMEOUT):
                    await self._idle.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if left := len(self._waiting) + len(self._sending) + self._lost:
            log.error("audit.lost", sink=REDIS, count=left)
        for file in self._files:
            file.close()

    def leave(self, entry: AuditRecord) -> None:
        """Write a record; of a flood of refusals only how many there were."""
        if entry.outcome is not Outcome.REFUSED or self._is_told_alone(entry):
            self._write(entry)

    def _is_told_alone(self, entry: AuditRecord) -> bool:
        """Whether this refusal gets a line of its own; the others are counted here."""
        now = monotonic()
        if now >= self._window_ends:
            self._write_counts()
            self._window_ends = now + _WINDOW
        kind: _Kind = (entry.action, entry.reason, *_identity(entry.actor))
        if kind not in self._seen and len(self._seen) >= _KINDS:
            kind = (entry.action, entry.reason)
        seen = self._seen.setdefault(kind, [0, entry])
        seen[0] += 1
        return bool(seen[0] <= _AT_ONCE and len(kind) > 2)

    def _write_counts(self) -> None:
        """End the second: one line for what was only counted in it."""
        seen, self._seen = self._seen, {}
        for kind, (times, first) in seen.items():
            is_shared = len(kind) == 2
            if (more := times if is_shared else times - _AT_ONCE) > 0:
                actor = replace(_SYSTEM, via=first.actor.via) if is_shared else replace(first.actor, request=None)
                fresh = AuditRecord(first.action, first.outcome, actor, first.reason, count=more)
                self._write(fresh)

    async def _end_windows(self) -> None:
        while True:
            await asyncio.sleep(_WINDOW)
            if self._seen and monotonic() >= self._window_ends:
                self._write_counts()

    def _write(self, entry: AuditRecord) -> None:
        shown = entry.to_json()
        if self._logs:
            audit_log.info("audit", **shown)
        if not self._files and self._stream is None:
            return
        line = _line(shown)
        for file in self._files:
            self._write_to(file, line)
        if self._stream is not None:
            if len(self._waiting) >= _WAITING:
                self._waiting.popleft()
                self._lost += 1
            self._waiting.append(line)
            self._news.set()
            self._idle.clear()

    def _write_to(self, file: AuditFile, line: bytes) -> None:
        try:
            if lost := self._lost_of_file[file]:
                file.write(_lost_line(lost) + b"\n")
                self._lost_of_file[file] = 0
                log.error("audit.lost", sink=str(file.path), count=lost)
            file.write(line + b"\n")
        except OSError as exc:
            if not self._lost_of_file[file]:
                log.error("audit.unwritable", file=str(file.path), why=exc.strerror or str(exc))
            self._lost_of_file[file] += 1

    async def _send(self, stream: AuditStream) -> None:
        """Send to Redis what waits, in order; through an outage it waits, as long as there is room."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                self._sending = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
                lost, self._lost = self._lost, 0
                await self._send_batch(stream, [_lost_line(lost), *self._sending] if lost else self._sending)
                if lost:
                    log.error("audit.lost", sink=REDIS, count=lost)
                self._sending = []
            self._idle.set()

    async def _send_batch(self, stream: AuditStream, batch: Sequence[bytes]) -> None:
        is_down = False
        while True:
            try:
                await stream.append(batch)
            except StoreUnavailable as exc:
                if not is_down:
                    log.warning("audit.waits", why=str(exc))
                is_down = True
                await asyncio.sleep(_RETRY_DELAY)
            else:
                return


def _identity(actor: ActorFacts) -> _Kind:
    return actor.kind, actor.who, actor.address, actor.via


def _line(shown: dict[str, Any]) -> bytes:
    return json.dumps(shown, separators=(",", ":")).encode()  # in ASCII: no line ends, nothing that a terminal obeys


def _lost_line(count: int) -> bytes:
    return _line(AuditRecord(Action.AUDIT_LOST, Outcome.FAILED, _SYSTEM, count=count).to_json())
