"""Escapes what is logged; what is printed is escaped by `printable`, which other rooms use too."""

from collections.abc import MutableMapping
from typing import Any

from taskmill.store.formats.escaping import printable, printable_json

__all__ = ["printable", "printable_event", "printable_json"]

_TRACES = ("exception", "stack")


def printable_event(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """A structlog processor that escapes every text of an event; tracebacks keep their lines."""
    return {
        key: printable(value, lines=key in _TRACES) if isinstance(value, str) else value for key, value in event.items()
    }
