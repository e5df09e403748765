"""JSON that pydantic's core reads and writes is what Python's own module makes of it."""

import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taskmill.store.formats.json_text import read_json, write_ascii_json, write_json

TEXTS = st.text(st.characters(), max_size=20)
"""With halves of surrogate pairs."""
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
ODD = [
    b"[-0, -0.0, 1e999, 5e-324, 1E5, 123456789012345678901234567890]",
    b'{"a": 1, "a": {"b": 2, "b": 3}}',
    b'["\\ud800", "\\ud83d\\ude00", "\\u0000", "\\/", "\x7f"]',
    b"[NaN, Infinity, -Infinity]",
    b"[" * 300 + b"]" * 300,
    b"\xef\xbb\xbf[1]",
    "[1]".encode("utf-16"),
    *(b"[1" + b"0" * 5000 + b"]", b'["\x01"]', b"[01]", b"[1,]", b"[1] x", b"[nan]", b'["\xff"]', b"", b"[" * 100_000),
]


def _outcome(function: Any, *args: Any, **more: Any) -> Any:
    """What it returns, so that NaN equals itself; or the class of what it raises."""
    try:
        return repr(function(*args, **more))
    except (ValueError, TypeError, RecursionError) as exc:
        return UnicodeError if isinstance(exc, UnicodeError) else RecursionError if "deep" in str(exc) else type(exc)


@given(VALUES)
@example(float("nan"))
@example([-math.inf, "Infinity"])
@example({"\ud800": "\ud800"})
@settings(max_examples=60, deadline=None)
def test_values_are_written_and_read_as_by_pythons_own_module(value: Any) -> None:
    text = json.dumps(value).encode()
    assert _outcome(read_json, text) == _outcome(json.loads, text)
    for ours, options in ((write_json, {"ensure_ascii": False, "allow_nan": False}), (write_ascii_json, {})):
        written = _outcome(ours, value)
        theirs = _outcome(lambda options=options: json.dumps(value, separators=(",", ":"), **options).encode())
        if isinstance(theirs, str):  # a float may be written in another way: 0.00006 or 6e-05
            assert repr(json.loads(ours(value))) == repr(json.loads(text))
            assert options or ours(value).isascii()
        else:
            assert written == theirs


@pytest.mark.parametrize("text", ODD, ids=lambda text: repr(text[:12]))
def test_odd_texts_are_read_and_refused_as_by_pythons_own_module(text: bytes) -> None:
    expected = _outcome(json.loads, text)
    assert _outcome(read_json, text) == expected


def test_a_value_that_is_nested_too_deeply_is_refused_as_no_json() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="nested too deeply"):
        write_json(deep)
