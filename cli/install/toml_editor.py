"""Changes one member in a TOML text and leaves every other character as it is.

Codex keeps its servers in TOML, a table each. What comes out is parsed again and compared, so that a text that is
written in a way not foreseen here is refused, not damaged. The meaning of the text is not known here.
"""

import json
import re
import tomllib
from collections.abc import Sequence
from typing import Any

from taskmill.cli.install.config_file import ConfigSyntaxError

__all__ = ["remove_key", "remove_table", "set_table", "set_table_text", "table_at", "table_text", "toml_of"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_OTHERWISE = "it is written in a way that this command cannot change"
Path = Sequence[str]


def table_at(text: str, path: Path, default: Any) -> Any:
    """The value at `path`; `default` if there is none.

    Raises:
        ConfigSyntaxError: it is not TOML, or a value on the way is no table.
    """
    value: Any = _parsed(text)
    for key in path:
        if not isinstance(value, dict):
            raise ConfigSyntaxError(f'"{".".join(path)}" is not a table')
        if key not in value:
            return default
        value = value[key]
    return value


def set_table(text: str, path: Path, value: Any) -> str:
    """The text with `value` at `path`; a new table comes last.

    Raises:
        ConfigSyntaxError: as `table_at`, or it cannot be changed here.
    """
    present = table_at(text, path, None)
    if present == value:
        return text
    is_new_table = present is None and isinstance(value, dict) and _span(_lines(text), path[:-1]) is None
    changed = _appended(text, path, value) if is_new_table else _with_member(text, path, value)
    return _checked(text, changed, path, value)


def remove_table(text: str, path: Path) -> str:
    """The text without the table at `path` and those in it; unchanged if there is none.

    Raises:
        ConfigSyntaxError: as `set_table`.
    """
    if table_at(text, path, None) is None:
        return text
    lines = _lines(text)
    while (span := _span(lines, path, with_inner=True)) is not None:
        start, end = span
        if start > 0 and not lines[start - 1].strip():
            start -= 1
        del lines[start:end]
    return _checked(text, "".join(lines), path, None)


def remove_key(text: str, path: Path) -> str:
    """The text without the value at `path`, be it a table or a line of one; unchanged if there is none.

    Raises:
        ConfigSyntaxError: as `set_table`.
    """
    lines = _lines(text)
    if table_at(text, path, None) is None:
        return text
    span = _span(lines, path[:-1])
    old = None if span is None else _assignment(lines, span[0] + 1, span[1], path[-1])
    if old is None:
        return remove_table(text, path)
    del lines[old[0] : old[1]]
    return _checked(text, "".join(lines), path, None)


def table_text(text: str, path: Path) -> str:
    """The lines of the table at `path` and of those in it, as they are written.

    Raises:
        ConfigSyntaxError: as `set_table`, or they are not together.
    """
    lines = _lines(text)
    start, end = _block(text, lines, path)
    return "".join(lines[start:end])


def set_table_text(text: str, path: Path, written: str) -> str:
    """The text with the table at `path`, which is there, written so.

    Raises:
        ConfigSyntaxError: as `table_text`.
    """
    lines = _lines(text)
    start, end = _block(text, lines, path)
    if end < len(lines) and not written.endswith("\n"):
        written += "\n"
    lines[start:end] = [written]
    return _checked(text, "".join(lines), path, table_at(written, path, {}))


def toml_of(path: Path, value: dict[str, Any]) -> str:
    """A table as TOML text."""
    lines = [
        f"[{'.'.join(_key(key) for key in path)}]",
        *(f"{_key(key)} = {_value(item)}" for key, item in value.items()),
    ]
    return "\n".join(lines) + "\n"


def _appended(text: str, path: Path, value: dict[str, Any]) -> str:
    end = "\r\n" if "\r\n" in text else "\n"
    gap = "" if not text.strip() else end if text.endswith("\n") else end * 2
    return (text if text.strip() else "") + gap + toml_of(path, value).replace("\n", end)


def _with_member(text: str, path: Path, value: Any) -> str:
    """The text with a member of a table that has lines of its own."""
    lines = _lines(text)
    if isinstance(value, dict) and _span(lines, path) is not None:
        for key, item in value.items():
            text = set_table(text, [*path, key], item)
        return text
    span = _span(lines, path[:-1])
    if span is None:
        raise ConfigSyntaxError(_OTHERWISE)
    start, end = span
    line_end = "\r\n" if "\r\n" in text else "\n"
    written = f"{_key(path[-1])} = {_value(value)}{line_end}"
    old = _assignment(lines, start + 1, end, path[-1])
    if old is not None:
        lines[old[0] : old[1]] = [written]
    else:
        lines.insert(start + 1, written)
    return "".join(lines)


def _assignment(lines: list[str], start: int, end: int, key: str) -> tuple[int, int] | None:
    """First line and line after the last of `key = ...` in a table."""
    for at in range(start, end):
        if not re.match(rf"\s*\"?{re.escape(key)}\"?\s*=", lines[at]):
            continue
        for after in range(at + 1, end + 1):
            try:
                tomllib.loads("".join(lines[at:after]))
            except tomllib.TOMLDecodeError:
                continue
            return at, after
    return None


def _span(lines: list[str], path: Path, *, with_inner: bool = False) -> tuple[int, int] | None:
    """The lines of the first table at `path`: from its header to what belongs to the next one.

    `with_inner`: a table inside it counts as well.
    """
    for at, line in enumerate(lines):
        header = _header(line)
        if header is None or not (header == list(path) or (with_inner and header[: len(path)] == list(path))):
            continue
        end = next((after for after in range(at + 1, len(lines)) if _header(lines[after]) is not None), len(lines))
        last = _without_comments_behind(lines, at, end)
        # Comments above a header belong to it, and those at the end of the file to the file.
        return at, last if end < len(lines) or any(line.strip() for line in lines[last:end]) else end
    return None


def _block(text: str, lines: list[str], path: Path) -> tuple[int, int]:
    """First line and line after the last of a table with those in it, if no other one is among them."""
    headers = [(at, found) for at, line in enumerate(lines) if (found := _header(line)) is not None]
    own = [number for number, (_, found) in enumerate(headers) if found[: len(path)] == list(path)]
    if table_at(text, path, None) is None or not own or own != list(range(own[0], own[-1] + 1)):
        raise ConfigSyntaxError(_OTHERWISE)
    start = headers[own[0]][0]
    end = headers[own[-1] + 1][0] if own[-1] + 1 < len(headers) else len(lines)
    return start, _without_comments_behind(lines, start, end)


def _without_comments_behind(lines: list[str], header: int, end: int) -> int:
    while end > header + 1 and (not lines[end - 1].strip() or lines[end - 1].lstrip()[0] == "#"):
        end -= 1
    return end


def _header(line: str) -> list[str] | None:
    """The path in a line that begins a table."""
    if not re.match(r"\s*\[", line):
        return None
    try:
        value: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return None
    path = []
    while value:
        if isinstance(value, list):
            value = value[0]
            continue
        ((key, value),) = value.items()
        path.append(key)
    return path


def _checked(before: str, after: str, path: Path, value: Any) -> str:
    """`after`, if nothing but the value at `path` is different.

    Raises:
        ConfigSyntaxError: something else is.
    """
    expected = _parsed(before)
    table = expected
    for key in path[:-1]:
        table = table.setdefault(key, {})
    if value is None:
        table.pop(path[-1], None)
    else:
        table[path[-1]] = value
    try:
        found = tomllib.loads(after)
    except tomllib.TOMLDecodeError:
        raise ConfigSyntaxError(_OTHERWISE) from None
    if _without_empty(found) != _without_empty(expected):
        raise ConfigSyntaxError(_OTHERWISE)
    return after


def _lines(text: str) -> list[str]:
    """With their ends; other separators that Python knows are part of a line."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _without_empty(value: Any) -> Any:
    """Without tables that have nothing in them: the last server takes their table with it."""
    if not isinstance(value, dict):
        return value
    return {key: kept for key, item in value.items() if (kept := _without_empty(item)) != {}}


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigSyntaxError(str(exc)) from None


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else json.dumps(key, ensure_ascii=False)


def _value(value: Any) -> str:
    """Text, lists of it and tables of it, which is all that an entry has."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    # A string of JSON is one of TOML, but for one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
