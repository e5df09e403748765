"""Parses a JSON text and keeps the position of every value. `json_editor.py` changes texts with it."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from taskmill.cli.install.config_file import ConfigSyntaxError

__all__ = ["JsonError", "Member", "Node", "parse_json"]

_SPACE = re.compile(r"[ \t\r\n]*")
_SPACE_AND_COMMENTS = re.compile(r"(?:[ \t\r\n]+|//[^\r\n]*|/\*.*?\*/)*", re.DOTALL)


class JsonError(ConfigSyntaxError):
    """The text is not JSON, or has another shape than expected; `str()` says what is wrong and where."""


@dataclass(frozen=True)
class Node:
    """One value and its position: `start` and `end` in the text."""

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
    """Position of the comma after it, None if there is none."""


def parse_json(text: str, *, allow_comments: bool) -> Node:
    """The whole text. `lenient` also takes comments, and a comma after the last member.

    Raises:
        JsonError: it is not JSON.
    """
    reader = _Parser(text, allow_comments=allow_comments)
    try:
        return reader.document()
    except RecursionError:
        raise JsonError("it is nested too deeply") from None


class _Parser:
    """Parses one document and keeps the positions of its objects' members."""

    def __init__(self, text: str, *, allow_comments: bool) -> None:
        self._text = text
        self._lenient = allow_comments
        self._decoder = json.JSONDecoder(parse_constant=self._refuse)

    def document(self) -> Node:
        """The whole text."""
        node = self._value(self._skip(0))
        if self._skip(node.end) != len(self._text):
            raise self._error("something follows the end", self._skip(node.end))
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
            raise self._error(exc.msg[0].lower() + exc.msg[1:], exc.pos) from None
        except JsonError:
            raise
        except ValueError:
            raise self._error("a number with too many digits", at) from None
        return Node(at, end, value)

    def _object(self, start: int) -> Node:
        members: list[Member] = []
        at = self._skip(start + 1)
        while not self._closes(at, "}", members, members[-1].comma if members else None):
            key = self._value(at)
            if not isinstance(key.value, str):
                raise self._error("a name in double quotes is expected", at)
            colon = self._skip(key.end)
            if self._text[colon : colon + 1] != ":":
                raise self._error("a colon is expected", colon)
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
        """Whether the bracket closes here; if not, another member or item must begin here."""
        if self._text[at : at + 1] == bracket:
            if comma is not None and not self._lenient:
                raise self._error("a comma before the closing bracket", comma)
            return True
        if before and comma is None:
            raise self._error(f'"," or "{bracket}" is expected', at)
        return False

    def _skip(self, at: int) -> int:
        found = (_SPACE_AND_COMMENTS if self._lenient else _SPACE).match(self._text, at)
        return found.end() if found else at

    def _error(self, problem: str, at: int) -> JsonError:
        line = self._text.count("\n", 0, at) + 1
        return JsonError(f"line {line}, column {at - self._text.rfind(chr(10), 0, at)}: {problem}")

    def _refuse(self, word: str) -> NoReturn:
        raise JsonError(f"{word} is not JSON")
