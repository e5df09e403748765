"""Changes one member of a JSON text and leaves every other character as it is: order, layout, comments, line ends.

`lenient` also reads what VS Code allows in its files: comments, and a comma after the last member. Nothing here knows
what the text means or where it comes from.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from taskmill.cli.install.json_parser import JsonFault, Member, Node, read

__all__ = ["drop", "put", "value_at"]

_REST_OF_LINE = re.compile(r"[ \t]*(?://[^\r\n]*|/\*[^\r\n]*?\*/)?[ \t]*(?=\r?\n|\Z)")


def value_at(text: str, path: Sequence[str], default: Any, *, lenient: bool) -> Any:
    """What the text says at `path`; `default` if nothing.

    Raises:
        JsonFault: as `put`.
    """
    node = read(text, lenient=lenient)
    for at in range(len(path)):
        member = _member(node, path, at)
        if member is None:
            return default
        node = member.node
    return node.value


def put(text: str, path: Sequence[str], value: Any, *, lenient: bool) -> str:
    """The text with `value` at `path`; objects on the way are made if need be. New members come last.

    Raises:
        JsonFault: it is not JSON, or something on the way is no object, or is there twice.
    """
    node = read(text, lenient=lenient)
    for at, key in enumerate(path):
        member = _member(node, path, at)
        if member is None:
            for missing in reversed(path[at + 1 :]):
                value = {missing: value}
            return _inserted(text, node, key, value)
        node = member.node
    if _same(node.value, value):
        return text
    return text[: node.start] + _written(text, value, _indent_at(text, node.start)) + text[node.end :]


def drop(text: str, path: Sequence[str], *, lenient: bool) -> str:
    """The text without the member at `path`; unchanged if there is none.

    Raises:
        JsonFault: as `put`.
    """
    node = read(text, lenient=lenient)
    for at in range(len(path)):
        member = _member(node, path, at)
        if member is None:
            return text
        if at == len(path) - 1:
            return _without(text, node, member)
        node = member.node
    return text


def _member(node: Node, path: Sequence[str], at: int) -> Member | None:
    if node.members is None:
        place = f'"{".".join(path[:at])}"' if at else "the whole"
        raise JsonFault(f"{place} is not an object")
    found = [member for member in node.members if member.key == path[at]]
    if len(found) > 1:
        raise JsonFault(f'"{path[at]}" is there twice')
    return found[0] if found else None


def _same(one: Any, other: Any) -> bool:
    # As texts: 1, 1.0 and true are equal to Python.
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _inserted(text: str, node: Node, key: str, value: Any) -> str:
    """The text with another member behind those of an object."""
    assert node.members is not None
    if not node.members:
        return _filled(text, node, key, value)
    last = node.members[-1]
    if "\n" not in text[node.start : last.start]:
        entry = f", {_as_json(key)}: {_as_json(value)}"
        return text[: last.node.end] + entry + text[last.node.end :]
    indent = _indent_at(text, last.start)
    entry = f"{_line_end(text)}{indent}{_as_json(key)}: {_written(text, value, indent)}"
    # A comment at the end of the line belongs to the member before it.
    if last.comma is None:
        after = _end_of_line(text, last.node.end) or last.node.end
        return text[: last.node.end] + "," + text[last.node.end : after] + entry + text[after:]
    after = _end_of_line(text, last.comma + 1) or last.comma + 1
    return text[:after] + entry + "," + text[after:]


def _filled(text: str, node: Node, key: str, value: Any) -> str:
    """The text with a first member in an empty object."""
    outer, end = _indent_at(text, node.start), _line_end(text)
    inner = outer + _step(text)
    entry = f"{end}{inner}{_as_json(key)}: {_written(text, value, inner)}"
    kept = text[node.start + 1 : node.end - 1]
    if not kept.strip():
        kept = f"{end}{outer}"
    return text[: node.start + 1] + entry + kept + ("" if "\n" in kept else end + outer) + text[node.end - 1 :]


def _without(text: str, node: Node, member: Member) -> str:
    """The text without a member, its line and the comma that it no longer needs."""
    assert node.members is not None
    if len(node.members) == 1 and not _strip(text, node, member):
        return text[: node.start] + "{}" + text[node.end :]
    at = node.members.index(member)
    start, end = _extent(text, node, member)
    if member.comma is not None or at == 0:
        return text[:start] + text[end:]
    comma = node.members[at - 1].comma
    assert comma is not None
    if not text[comma + 1 : start].strip() and not text[start:end].endswith("\n"):
        return text[:comma] + text[end:]
    return text[:comma] + text[comma + 1 : start] + text[end:]


def _strip(text: str, node: Node, only: Member) -> str:
    """What an object has beside its only member: comments, if anything."""
    behind = only.node.end if only.comma is None else only.comma + 1
    return (text[node.start + 1 : only.start] + text[behind : node.end - 1]).strip()


def _extent(text: str, node: Node, member: Member) -> tuple[int, int]:
    """From where to where a member reaches: whole lines if it has them for itself, else up to the next one."""
    end = member.node.end if member.comma is None else member.comma + 1
    line = text.rfind("\n", 0, member.start) + 1
    rest = _end_of_line(text, end)
    if line > node.start and not text[line : member.start].strip() and rest is not None:
        return line, text.index("\n", rest) + 1
    following = [other.start for other in node.members or () if other.start > member.start]
    return member.start, following[0] if following else end


def _written(text: str, value: Any, indent: str) -> str:
    """A value as the rest of the text is laid out; its lines after the first begin with `indent`."""
    lines = json.dumps(value, ensure_ascii=False, indent=_step(text)).split("\n")
    return (_line_end(text) + indent).join(lines)


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _step(text: str) -> str:
    """What a level is indented by, taken from the first member of all."""
    found = re.search(r"\{[ \t]*\r?\n([ \t]+)\S", text)
    return found[1] if found else "  "


def _indent_at(text: str, at: int) -> str:
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip())]


def _end_of_line(text: str, at: int) -> int | None:
    """The end of the line, if nothing but a comment comes before it."""
    found = _REST_OF_LINE.match(text, at)
    return found.end() if found else None
