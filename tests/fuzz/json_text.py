"""JSON as a hostile client writes it: endless numbers, keys twice, halves of characters, trees with one thing wrong."""

import json
from dataclasses import dataclass
from typing import Any

from tests.fuzz.choices import Choices

__all__ = ["ODD", "Raw", "Twice", "mutated", "serialized"]


@dataclass(frozen=True)
class Raw:
    """Text that stands for itself."""

    text: str


@dataclass(frozen=True)
class Twice:
    """An object in which a key stands twice."""

    members: tuple[tuple[str, Any], ...]


ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 10**40, 0.5, -0.0, 1e308),
    *(Raw("1e999"), Raw("-1e999"), Raw("NaN"), Raw("Infinity"), Raw("9" * 4000), Raw("9" * 5000), Raw("1E-400")),
    *("", " ", "0", "null", "x" * 257, "x" * 5000, "\x00", "a\x00b", "\r\nx: y", "\x1b[31m", "\u202e", "é" * 200),
    *("\ud800", "\udfff", "a\udc80", "\ud83d\ude00", "*", "..", "../../etc/passwd", "%00", "%s%n", "{0}", "{{}}"),
    *("{taskmill}:live", "task:x", "a:b", "a b", "a.1", "a.end", "__class__", "-1", "1" * 16, "\u0661", "1e5"),
    *([], {}, [[]], [{}], [None], {"": None}, {"\ud800": 1}, [1] * 300, {"a": {"b": {"c": {}}}}),
    *(Raw("[" * 60 + "]" * 60), Raw("[" * 3000 + "]" * 3000), Raw('{"a":' * 1500 + "1" + "}" * 1500)),
    *(Twice((("a", 1), ("a", 2))), Twice((("action", "accept"), ("action", "decline")))),
)
"""Values that are in nobody's examples."""


def serialized(value: Any) -> str:
    """The JSON text; ASCII alone, so that half a character is an escape."""
    match value:
        case Raw():
            return value.text
        case Twice():
            return "{" + ",".join(f"{json.dumps(key)}:{serialized(one)}" for key, one in value.members) + "}"
        case dict():
            return "{" + ",".join(f"{json.dumps(key)}:{serialized(one)}" for key, one in value.items()) + "}"
        case list():
            return "[" + ",".join(map(serialized, value)) + "]"
        case _:
            return json.dumps(value)


def mutated(value: Any, choices: Choices) -> Any:
    """The tree with one thing wrong somewhere in it."""
    if isinstance(value, dict) and value and not choices.chance(10):
        key = choices.pick(list(value))
        return _mutated_at(value, key, choices)
    if isinstance(value, list) and value and choices.chance(50):
        at = choices.number(len(value))
        return [*value[:at], mutated(value[at], choices), *value[at + 1 :]]
    return choices.pick(ODD)


def _mutated_at(value: dict[str, Any], key: str, choices: Choices) -> Any:
    match choices.number(8):
        case 0 | 1 | 2:
            return {**value, key: mutated(value[key], choices)}
        case 3:
            return {name: one for name, one in value.items() if name != key}
        case 4:
            return Twice((*value.items(), (key, choices.pick(ODD))))
        case 5:
            return {
                **value,
                choices.pick(("extra", "", "_meta", "id", "taskId", "\ud800", "x" * 300)): choices.pick(ODD),
            }
        case 6:
            return {name if name != key else key.upper(): one for name, one in value.items()}
        case _:
            return {**value, key: [value[key]]}
