"""Events as a history has them, made without Redis: for tests that change a history or make up one."""

from collections.abc import Sequence
from typing import Any

from taskmill.engine.events import Event
from taskmill.store.formats.events import event_of

__all__ = ["pack_event", "pack_words", "repack"]


def pack_words(words: Sequence[str]) -> bytes:
    """A MessagePack array of strings, each length in the shortest form."""
    count = len(words)
    parts = [bytes([0x90 + count]) if count < 16 else b"\xdc" + count.to_bytes(2)]
    for word in words:
        text = word.encode()
        size = len(text)
        if size < 32:
            parts.append(bytes([0xA0 + size]))
        else:
            first, width = (0xD9, 1) if size < 2**8 else (0xDA, 2) if size < 2**16 else (0xDB, 4)
            parts.append(bytes([first]) + size.to_bytes(width))
        parts.append(text)
    return b"".join(parts)


def pack_event(event: Event) -> bytes:
    """One entry of a history."""
    words = [str(event.seq), event.move.value, str(event.at_ms)]
    for name, value in event.facts.items():
        if name != "id":
            words += [name, "" if value is None else str(value)]
    return pack_words(words)


def repack(packed: bytes, **changes: Any) -> bytes:
    """The entry with other values: `seq`, `move` and `at_ms` are the event's, all others are facts."""
    event = event_of("task", packed)
    own = {name: changes.pop(name, getattr(event, name)) for name in ("seq", "move", "at_ms")}
    return pack_event(Event(**own, facts={**event.facts, **changes}))
