"""Changes one member of a JSON text and leaves every other character as it is: order, layout, comments, line ends.

`allow_comments` also reads what VS Code allows in its files: comments, and a comma after the last member. The meaning
of the text is not known here.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from taskmill.cli.install.json_parser import JsonError, Member, Node, parse_json

__all__ = ["member_text", "remove_member", "set_member", "set_member_text", "value_at"]

_REST_OF_LINE = re.compile(r"[ \t]*(?://[^\r\n]*|/\*[^\r\n]*?\*/)?[ \t]*(?=\r?\n|\Z)")


def value_at(text: str, path: Sequence[str], default: Any, *, allow_comments: bool) -> Any:
    """The value at `path`; `default` if there is none.

    Raises:
        JsonError: as `set_member`.
    """
    node = _node_at(text, path, allow_comments=allow_comments)
    return default if node is None else node.value


def set_member(text: str, path: Sequence[str], value: Any, *, allow_comments: bool) -> str:
    """The text with `value` at `path`; missing objects on the way are made. New members come last.

    Raises:
        JsonError: it is not JSON, or a value on the way is no object, or a key on the way is there twice.
    """
    node = parse_json(text, allow_comments=allow_comments)
    for at, key in enumerate(path):
        member = _member(node, path, at)
        if member is None:
            for missing in reversed(path[at + 1 :]):
                value = {missing: value}
            return _with_member(text, node, key, value)
        node = member.node
    if _same(node.value, value):
        return text
    return text[: node.start] + _formatted(text, value, _indent_at(text, node.start)) + text[node.end :]


def remove_member(text: str, path: Sequence[str], *, allow_comments: bool) -> str:
    """The text without the member at `path`; unchanged if there is none.

    Raises:
        JsonError: as `set_member`.
    """
    node = parse_json(text, allow_comments=allow_comments)
    for at in range(len(path)):
        member = _member(node, path, at)
        if member is None:
            return text
        if at == len(path) - 1:
            return _without_member(text, node, member)
        node = member.node
    return text


def member_text(text: str, path: Sequence[str], *, allow_comments: bool) -> str:
    """The value at `path` as it is written; "" if there is none.

    Raises:
        JsonError: as `set_member`.
    """
    node = _node_at(text, path, allow_comments=allow_comments)
    return "" if node is None else text[node.start : node.end]


def set_member_text(text: str, path: Sequence[str], written: str, *, allow_comments: bool) -> str:
    """The text with the value at `path`, which is there, written so.

    Raises:
        JsonError: as `set_member`, or there is no such value.
    """
    node = _node_at(text, path, allow_comments=allow_comments)
    if node is None:
        raise JsonError(f'there is no "{".".join(path)}"')
    return text[: node.start] + written + text[node.end :]


def _node_at(text: str, path: Sequence[str], *, allow_comments: bool) -> Node | None:
    node = parse_json(text, allow_comments=allow_comments)
    for at in range(len(path)):
        member = _member(node, path, at)
        if member is None:
            return None
        node = member.node
    return node


def _member(node: Node, path: Sequence[str], at: int) -> Member | None:
    if node.members is None:
        location = f'"{".".join(path[:at])}"' if at else "the whole"
        raise JsonError(f"{location} is not an object")
    found = [member for member in node.members if member.key == path[at]]
    if len(found) > 1:
        raise JsonError(f'"{path[at]}" is there twice')
    return found[0] if found else None


def _same(one: Any, other: Any) -> bool:
    # As texts: 1, 1.0 and true are equal to Python.
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _with_member(text: str, node: Node, key: str, value: Any) -> str:
    """The text with another member behind those of an object."""
    assert node.members is not None
    if not node.members:
        return _with_first_member(text, node, key, value)
    last = node.members[-1]
    if "\n" not in text[node.start : last.start]:
        entry = f", {_as_json(key)}: {_as_json(value)}"
        return text[: last.node.end] + entry + text[last.node.end :]
    indent = _indent_at(text, last.start)
    entry = f"{_line_end(text)}{indent}{_as_json(key)}: {_formatted(text, value, indent)}"
    # A comment at the end of the line belongs to the member before it.
    if last.comma is None:
        after = _end_of_line(text, last.node.end) or last.node.end
        return text[: last.node.end] + "," + text[last.node.end : after] + entry + text[after:]
    after = _end_of_line(text, last.comma + 1) or last.comma + 1
    return text[:after] + entry + "," + text[after:]


def _with_first_member(text: str, node: Node, key: str, value: Any) -> str:
    """The text with a first member in an empty object."""
    outer, end = _indent_at(text, node.start), _line_end(text)
    inner = outer + _indent_unit(text)
    entry = f"{end}{inner}{_as_json(key)}: {_formatted(text, value, inner)}"
    kept = text[node.start + 1 : node.end - 1]
    if not kept.strip():
        kept = f"{end}{outer}"
    return text[: node.start + 1] + entry + kept + ("" if "\n" in kept else end + outer) + text[node.end - 1 :]


def _without_member(text: str, node: Node, member: Member) -> str:
    """The text without a member, its line and the comma that it no longer needs."""
    assert node.members is not None
    if len(node.members) == 1 and not _comments_beside(text, node, member):
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


def _comments_beside(text: str, node: Node, only: Member) -> str:
    """The text of an object without its only member: comments, if there are any."""
    after_member = only.node.end if only.comma is None else only.comma + 1
    return (text[node.start + 1 : only.start] + text[after_member : node.end - 1]).strip()


def _extent(text: str, node: Node, member: Member) -> tuple[int, int]:
    """Start and end of a member: whole lines if nothing else is on them, else up to the next member."""
    end = member.node.end if member.comma is None else member.comma + 1
    line = text.rfind("\n", 0, member.start) + 1
    end_of_line = _end_of_line(text, end)
    if line > node.start and not text[line : member.start].strip() and end_of_line is not None:
        return line, text.index("\n", end_of_line) + 1
    following = [other.start for other in node.members or () if other.start > member.start]
    return member.start, following[0] if following else end


def _formatted(text: str, value: Any, indent: str) -> str:
    """A value in the layout of the text; its lines after the first begin with `indent`."""
    lines = json.dumps(value, ensure_ascii=False, indent=_indent_unit(text)).split("\n")
    return (_line_end(text) + indent).join(lines)


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _indent_unit(text: str) -> str:
    """The indent of one level, taken from the first member of the text."""
    found = re.search(r"\{[ \t]*\r?\n([ \t]+)\S", text)
    return found[1] if found else "  "


def _indent_at(text: str, at: int) -> str:
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip())]


def _end_of_line(text: str, at: int) -> int | None:
    """The end of the line, None if more than a comment comes before it."""
    found = _REST_OF_LINE.match(text, at)
    return found.end() if found else None
