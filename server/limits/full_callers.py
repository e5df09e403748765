"""Callers who can keep no more at the moment: their next call is refused before it is written and sent to Redis.

A refusal by Redis costs almost as much as a task, and a caller who floods is refused again and again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from taskmill.engine.errors import QuotaExceeded

__all__ = ["FullCallers", "least_size"]

_FOR = 1.0
"""Seconds for which a refusal holds: what a caller keeps only becomes less by expiring."""
_COUNTED = 4096
"""Bytes of arguments that Redis counts while a task is open; of less, none (`COUNTED` of `lua/create.lua`)."""
_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class _Full:
    until: float
    room: int
    """Bytes of arguments that would still fit."""
    refusal: QuotaExceeded


class FullCallers:
    """Of one replica, by caller and queue: each Redis counts for itself."""

    def __init__(self) -> None:
        self._full: dict[tuple[str, str], _Full] = {}

    def check(self, who: str, queue: str, arguments: Mapping[str, Any]) -> None:
        """Return if Redis may have room for a call.

        Raises:
            QuotaExceeded: it has not had any a moment ago.
        """
        full = self._full.get((who, queue))
        if full is None:
            return
        if full.until < monotonic():
            del self._full[who, queue]
        elif least_size(arguments) > full.room:
            refused = full.refusal
            raise QuotaExceeded(str(refused), **refused.facts)

    def note(self, who: str, queue: str, exc: QuotaExceeded, size: int) -> None:
        """Remember a refusal, if it is one of these. `size`: bytes of the arguments as they were sent to Redis."""
        if exc.facts.get("limit") not in ("kept_tasks", "kept_bytes"):
            return
        room = -1
        if exc.facts["limit"] == "kept_bytes":
            counted = -(-size // 1024) * 1024 if size > _COUNTED else 0
            room = max(_COUNTED, exc.facts["allowed"] - exc.facts["used"] + counted)
        if len(self._full) >= _KEPT:
            self._full.clear()
        self._full[who, queue] = _Full(monotonic() + min(_FOR, exc.facts["retry_after"]), room, exc)


def least_size(arguments: Mapping[str, Any]) -> int:
    """Bytes that arguments have at least: those of their texts."""
    return sum(len(value) for value in arguments.values() if isinstance(value, str))
