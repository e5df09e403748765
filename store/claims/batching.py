"""Combines a worker's calls in one round trip: many endings are one script call, in pieces that do not block Redis.

The last piece goes into the claim. Which calls there are is `claims.py`'s business.
"""

from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from taskmill.store.scripts import Call

__all__ = ["batched", "unbatched"]

_ENDINGS_COUNT_AT = 6
"""Index in a claim's arguments of the number of tasks that end before it; their arguments follow."""
_ENDINGS_PER_CALL = 32
"""Endings of one script call: some two milliseconds of Redis's time."""
_BYTES_PER_CALL = 1024 * 1024
"""Bytes of their outcomes, unless it is one ending: a full Redis refuses a call's first write, and no later one."""
_OUTCOME_AT = 3
"""Index of the outcome in the arguments of an ending."""


def batched(calls: Sequence[Call], claim: Call | None) -> list[Call]:
    """The same in fewer calls. Endings come after the last progress of their tasks, and the claim comes last."""
    others = [call for call in calls if call[0] != "finish"]
    pieces = _pieces([call[2] for call in calls if call[0] == "finish"])
    last = [_with_endings(claim, pieces.pop() if pieces else [])] if claim else []
    return [*others, *(("finish", [], _flat(piece)) for piece in pieces), *last]


def _pieces(endings: Sequence[Sequence[Any]]) -> list[list[Sequence[Any]]]:
    """The endings of each script call."""
    pieces: list[list[Sequence[Any]]] = []
    size = 0
    for ending in endings:
        size += len(ending[_OUTCOME_AT])
        if not pieces or len(pieces[-1]) == _ENDINGS_PER_CALL or size > _BYTES_PER_CALL:
            pieces.append([])
            size = len(ending[_OUTCOME_AT])
        pieces[-1].append(ending)
    return pieces


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
