"""What a task keeps for its later attempts: results of its steps, and its state. Sealed like every payload.

In which order a tool reads them again is `engine/replay.py`'s business.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from taskmill.engine.errors import FenceLost, TooLargeToStore
from taskmill.engine.replay import Entry, question_entry, step_entry
from taskmill.engine.status import TERMINAL
from taskmill.store.connection.client import store_errors
from taskmill.store.scripts import Scripts
from taskmill.store.seal_keys import sealer_of
from taskmill.store.settings import StoreSettings

__all__ = ["JournalStore", "Recorded"]

_STATE = "state"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What earlier attempts left."""

    entries: list[Entry] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    """Results of steps by the mark of their entry."""
    state: dict[str, Any] = field(default_factory=dict)
    size: int = 0
    """Bytes of all results."""


class JournalStore:
    """The journals of every task of one deployment."""

    def __init__(self, redis: Redis, settings: StoreSettings, scripts: Scripts) -> None:
        self._redis = redis
        self._settings = settings
        self._scripts = scripts
        self._keys = settings.keys()
        self._sealer = sealer_of(settings)

    async def read(self, task_id: str, fence: int) -> Recorded:
        """What earlier attempts recorded.

        The journal is deleted with the end of its task. Read without the fence, a task that was cancelled in this
        moment would look like one whose steps were never taken, and they would be taken again.

        Raises:
            FenceLost: the task is another worker's now, or has ended.
            SealBroken: sealed with a key that is not in the ring.
        """
        with store_errors():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.hgetall(self._keys.journal(task_id))
                pipe.hgetall(self._keys.inputs(task_id))
                pipe.hmget(self._keys.record(task_id), ["fence", "status"])  # last: what was read before was there then
                kept, inputs, (owner, status) = await pipe.execute()
        if owner != str(fence).encode() or status.decode() in TERMINAL:
            raise FenceLost(task_id=task_id)
        entries = [
            question_entry(*_question_of(digest.decode(), key[2:].decode()))
            for key, digest in inputs.items()
            if key.startswith(b"d:")
        ]
        values, size = {}, 0
        for name, stored in kept.items():
            if name != _STATE.encode():
                mark, size = name.decode(), size + len(stored)
                step = self._sealer.open(stored, task_id=task_id, field=f"step:{mark}")
                entries.append(step_entry(mark, step["name"], step["digest"]))
                values[mark] = step["value"]
        state = kept.get(_STATE.encode())
        opened = self._sealer.open(state, task_id=task_id, field=_STATE) if state else {}
        return Recorded(entries, values, opened, size)

    def pack_step(self, task_id: str, entry: Entry, value: Any, *, room: int) -> bytes:
        """A step's result as it will be stored; `room`: bytes left for results of this task.

        Raises:
            TooLargeToKeep: the author's fault; the message names the step.
        """
        kept = {"name": entry.name, "digest": entry.digest, "value": value}
        limit = min(self._settings.max_step, room)
        return self._pack(task_id, f"step:{entry.mark}", kept, limit, f"The result of step {entry.name!r}")

    def pack_state(self, task_id: str, state: Mapping[str, Any]) -> bytes:
        """The state as it will be stored.

        Raises:
            TooLargeToKeep: the author's fault.
        """
        return self._pack(task_id, _STATE, dict(state), self._settings.max_state, "The task's state")

    @property
    def room(self) -> int:
        """Bytes of results that one task may keep."""
        return self._settings.max_journal

    async def keep(
        self, task_id: str, fence: int, *, steps: Mapping[str, bytes] | None = None, state: bytes | None = None
    ) -> None:
        """Keep packed results by the mark of their entry, and the state, at once.

        Raises:
            FenceLost: the task is another worker's now, or has ended.
        """
        fields: list[Any] = [word for pair in (steps or {}).items() for word in pair]
        if state is not None:
            fields += [_STATE, state]
        with store_errors():
            reply = await self._scripts.run(
                self._redis, "save_journal", [self._keys.journal(task_id)], [task_id, fence, *fields]
            )
        if reply == b"lost":
            raise FenceLost(task_id=task_id)

    def _pack(self, task_id: str, field: str, value: Any, limit: int, what: str) -> bytes:
        packed = self._sealer.seal(value, task_id=task_id, field=field)
        if len(packed) > limit:
            raise TooLargeToStore(
                f"{what} is {len(packed):,} bytes; {limit:,} can be kept. Keep less, or a reference to it.",
                task_id=task_id,
            )
        return packed


def _question_of(digest: str, key: str) -> tuple[str, str, str]:
    mark, _, rest = digest.partition(".")
    return mark, key, rest
