"""Packs what a worker says in one round trip: many endings are one script's work, in pieces that do not hold Redis up.

Which calls there are is `claims.py`'s business.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from windlass.store.scripts import Call

__all__ = ["packed", "unpacked"]

_TOGETHER = 32
"""Endings of one script call: some two milliseconds of Redis's time."""


def packed(calls: Sequence[Call]) -> list[Call]:
    """The same in fewer calls. Endings come last, behind the last progress of their tasks."""
    others = [call for call in calls if call[0] != "finish"]
    endings = [call[2] for call in calls if call[0] == "finish"]
    pieces = [endings[at : at + _TOGETHER] for at in range(0, len(endings), _TOGETHER)]
    return [*others, *(("finish", [], [word for words in piece for word in words]) for piece in pieces)]


def unpacked(calls: Sequence[Call], replies: Sequence[Any]) -> list[Any]:
    """The replies to `packed(calls)`, one for each of `calls`.

    Raises:
        RedisError: one of them was refused.
    """
    others = iter(replies)
    plain = [next(others) for call in calls if call[0] != "finish"]
    settled = list(_one_by_one(others))
    for reply in settled:
        if isinstance(reply, Exception):
            raise reply
    kinds = {True: iter(settled), False: iter(plain)}
    return [next(kinds[call[0] == "finish"]) for call in calls]


def _one_by_one(replies: Iterator[Any]) -> Iterator[Any]:
    for reply in replies:
        yield from reply if isinstance(reply, list) else [reply]
