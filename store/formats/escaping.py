"""Escapes control characters, so that a terminal, a log or a page shows a text and does not act on it."""

import json
from typing import Any

__all__ = ["printable", "printable_json"]

# Control characters move the cursor, set titles and forge log lines; the others reorder the text before them.
_CONTROLS = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_ESCAPES = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _CONTROLS}
_ESCAPES |= {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}
_ESCAPES_IN_LINES = {code: text for code, text in _ESCAPES.items() if chr(code) not in "\n\t"}
_ESCAPES_IN_JSON = {code: f"\\u{code:04x}" for code in _CONTROLS if code >= 0x7F}


def printable(text: str, *, lines: bool = False) -> str:
    """`text` with its control characters escaped; `lines` keeps tabs and line ends, those of Windows as plain ones."""
    return text.replace("\r\n", "\n").translate(_ESCAPES_IN_LINES) if lines else text.translate(_ESCAPES)


def printable_json(value: Any) -> str:
    """JSON for people: letters of all languages as they are, control characters escaped as JSON does."""
    return json.dumps(value, indent=2, ensure_ascii=False).translate(_ESCAPES_IN_JSON)
