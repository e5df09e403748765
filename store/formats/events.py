"""From a packed event, as a history has it, to the engine's event.

A history is a list. Each entry is one event: a MessagePack array of strings that a script made (`append` in
`lua/prelude.lua`): number, move, time, then name and value of each fact. What an event of creation says of the task's
id is the key of the history. Only such arrays are read here, so that no library is needed.
"""

from typing import Any

from taskmill.engine.events import Event
from taskmill.engine.status import Move
from taskmill.store.formats.records import format_errors, parse_count, typed

__all__ = ["event_of"]

_SHORT_ARRAY, _SHORT_STRING = 0x90, 0xA0
"""First byte without the length, which is in its last four and five bits."""
_LONG_ARRAY = 0xDC
"""First byte; two bytes of length follow."""
_LONG_STRINGS = {0xD9: 1, 0xDA: 2, 0xDB: 4}
"""First byte to how many bytes of length follow."""


def event_of(task_id: str, packed: bytes) -> Event:
    """One entry of the history of a task.

    Raises:
        SealBroken: it cannot be read.
    """
    with format_errors(task_id):
        number, move, at, *rest = _strings(packed)
        pairs = iter(rest)
        facts: dict[str, Any] = {name: typed(name, value) for name, value in zip(pairs, pairs, strict=True)}
        if move == Move.CREATE:
            facts = {"id": task_id, **facts}
        return Event(parse_count(number), Move(move), parse_count(at), facts)


def _strings(packed: bytes) -> list[str]:
    """The strings of an array.

    Raises:
        ValueError, LookupError: it is no array of strings, or is cut, or something follows it.
    """
    first, at = packed[0], 1
    if first == _LONG_ARRAY:
        count, at = int.from_bytes(packed[1:3]), 3
    elif _SHORT_ARRAY <= first < _SHORT_STRING:
        count = first - _SHORT_ARRAY
    else:
        raise ValueError("not an array")
    strings = []
    for _ in range(count):
        first, at = packed[at], at + 1
        if _SHORT_STRING <= first < _SHORT_STRING + 32:
            size = first - _SHORT_STRING
        else:
            width = _LONG_STRINGS[first]
            size, at = int.from_bytes(packed[at : at + width]), at + width
        strings.append(packed[at : at + size].decode())
        at += size
    if at != len(packed):
        raise ValueError("not its length")
    return strings
