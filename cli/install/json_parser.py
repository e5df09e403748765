"""Reads a JSON text and remembers where everything stands. What is done with it is `json_text.py`'s business."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

__all__ = ["JsonFault", "Member", "Node", "read"]

_SPACE = re.compile(r"[ \t\r\n]*")
_SPACE_AND_COMMENTS = re.compile(r"(?:[ \t\r\n]+|//[^\r\n]*|/\*.*?\*/)*", re.DOTALL)


class JsonFault(ValueError):
    """The text is not JSON, or not what was expected; `str()` says what and where."""


@dataclass(frozen=True)
class Node:
    """One value and where it stands."""

    start: int
    end: int
    value: Any
    members: tuple["Member", ...] | None = None
    """None: not an object."""


@dataclass(frozen=True)
class Member:
    """One member of an object."""

    key: str
    start: int
    node: Node
    comma: int | None
    """Where the comma behind it stands."""


def read(text: str, *, lenient: bool) -> Node:
    """The whole text. `lenient` also takes comments, and a comma after the last member.

    Raises:
        JsonFault: it is not JSON.
    """
    reader = _Reader(text, lenient=lenient)
    try:
        return reader.document()
    except RecursionError:
        raise JsonFault("it is nested too deeply") from None


class _Reader:
    """Reads one document and remembers where the members of its objects stand."""

    def __init__(self, text: str, *, lenient: bool) -> None:
        self._text = text
        self._lenient = lenient
        self._decoder = json.JSONDecoder(parse_constant=self._refuse)

    def document(self) -> Node:
        """The whole text."""
        node = self._value(self._skip(0))
        if self._skip(node.end) != len(self._text):
            raise self._fault("something follows the end", self._skip(node.end))
        return node

    def _value(self, at: int) -> Node:
        opening = self._text[at : at + 1]
        if opening == "{":
            return self._object(at)
        if opening == "[":
            return self._array(at)
        try:
            value, end = self._decoder.raw_decode(self._text, at)
        except json.JSONDecodeError as exc:
            raise self._fault(exc.msg[0].lower() + exc.msg[1:], exc.pos) from None
        except JsonFault:
            raise
        except ValueError:
            raise self._fault("a number with too many digits", at) from None
        return Node(at, end, value)

    def _object(self, start: int) -> Node:
        members: list[Member] = []
        at = self._skip(start + 1)
        while not self._closes(at, "}", members, members[-1].comma if members else None):
            key = self._value(at)
            if not isinstance(key.value, str):
                raise self._fault("a name in double quotes is expected", at)
            colon = self._skip(key.end)
            if self._text[colon : colon + 1] != ":":
                raise self._fault("a colon is expected", colon)
            node = self._value(self._skip(colon + 1))
            at = self._skip(node.end)
            comma = at if self._text[at : at + 1] == "," else None
            members.append(Member(key.value, key.start, node, comma))
            at = at if comma is None else self._skip(comma + 1)
        return Node(start, at + 1, {member.key: member.node.value for member in members}, tuple(members))

    def _array(self, start: int) -> Node:
        items: list[Any] = []
        comma: int | None = None
        at = self._skip(start + 1)
        while not self._closes(at, "]", items, comma):
            node = self._value(at)
            items.append(node.value)
            at = self._skip(node.end)
            comma = at if self._text[at : at + 1] == "," else None
            at = at if comma is None else self._skip(comma + 1)
        return Node(start, at + 1, items)

    def _closes(self, at: int, bracket: str, before: Sequence[Any], comma: int | None) -> bool:
        """Whether the bracket closes here; if it does not, another part must begin here."""
        if self._text[at : at + 1] == bracket:
            if comma is not None and not self._lenient:
                raise self._fault("a comma before the closing bracket", comma)
            return True
        if before and comma is None:
            raise self._fault(f'"," or "{bracket}" is expected', at)
        return False

    def _skip(self, at: int) -> int:
        found = (_SPACE_AND_COMMENTS if self._lenient else _SPACE).match(self._text, at)
        return found.end() if found else at

    def _fault(self, what: str, at: int) -> JsonFault:
        line = self._text.count("\n", 0, at) + 1
        return JsonFault(f"line {line}, column {at - self._text.rfind(chr(10), 0, at)}: {what}")

    def _refuse(self, word: str) -> NoReturn:
        raise JsonFault(f"{word} is not JSON")
