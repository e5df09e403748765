"""Packs what a worker says in one round trip: many endings are one script's work, in pieces that do not hold Redis up.

The last piece goes with the claim behind it. Which calls there are is `claims.py`'s business.
"""

from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from taskmill.store.scripts import Call

__all__ = ["batched", "unbatched"]

_ENDINGS_COUNT_AT = 6
"""Where a claim says how many tasks end before it; their words follow."""
_ENDINGS_PER_CALL = 32
"""Endings of one script call: some two milliseconds of Redis's time."""


def batched(calls: Sequence[Call], claim: Call | None) -> list[Call]:
    """The same in fewer calls. Endings come behind the last progress of their tasks, and the claim behind all."""
    others = [call for call in calls if call[0] != "finish"]
    endings = [call[2] for call in calls if call[0] == "finish"]
    pieces = [endings[at : at + _ENDINGS_PER_CALL] for at in range(0, len(endings), _ENDINGS_PER_CALL)]
    last = [_with_endings(claim, pieces.pop() if pieces else [])] if claim else []
    return [*others, *(("finish", [], _flat(piece)) for piece in pieces), *last]


def unbatched(calls: Sequence[Call], replies: Sequence[Any], *, with_claim: bool) -> list[Any]:
    """The replies to `batched(calls, claim)`, one for each of `calls`. `with_claim`: the last reply is the claim's.

    Raises:
        ResponseError: one of them was refused.
    """
    rest = iter(replies)
    others = iter([next(rest) for call in calls if call[0] != "finish"])
    pieces = list(rest)
    if with_claim:
        pieces[-1] = pieces[-1][-1]
    settled = iter([reply for piece in pieces for reply in piece])
    answered = [next(settled if call[0] == "finish" else others) for call in calls]
    for reply in answered:
        if isinstance(reply, ResponseError):
            raise reply
    return answered


def _with_endings(claim: Call, endings: Sequence[Sequence[Any]]) -> Call:
    name, keys, args = claim
    return name, keys, [*args[:_ENDINGS_COUNT_AT], len(endings), *_flat(endings), *args[_ENDINGS_COUNT_AT + 1 :]]


def _flat(endings: Sequence[Sequence[Any]]) -> list[Any]:
    return [value for ending in endings for value in ending]
