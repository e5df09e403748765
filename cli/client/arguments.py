"""Arguments of a call from command line words, guided by the tool's input schema. Values are judged by the server."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from taskmill.cli.errors import UsageFault

__all__ = ["check_arguments", "parse_arguments", "parse_object", "split_pairs"]

Schema = Mapping[str, Any]
_COMPOUNDS = ("anyOf", "oneOf", "allOf")


def split_pairs(words: Sequence[str]) -> dict[str, str]:
    """`key=value` words as a mapping.

    Raises:
        UsageFault: a word without `=`, or a key given twice.
    """
    pairs: dict[str, str] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not key:
            raise UsageFault(f"{word!r} is not an argument: write key=value, key=@file, or --args with JSON.")
        if key in pairs:
            raise UsageFault(f"The argument {key!r} is given twice.")
        pairs[key] = value
    return pairs


def parse_object(text: str) -> dict[str, Any]:
    """The value of `--args`.

    Raises:
        UsageFault: not a JSON object.
    """
    try:
        value = json.loads(_contents(text))
    except ValueError as exc:
        raise UsageFault(f"--args is not JSON: {exc}.") from None
    except RecursionError:
        raise UsageFault("--args is nested too deeply.") from None
    if not isinstance(value, dict):
        raise UsageFault('--args must be a JSON object, as in --args \'{"path": "."}\'.')
    return value


def parse_arguments(pairs: Mapping[str, str], schema: Schema) -> dict[str, Any]:
    """The arguments; a value is JSON where the schema wants no string and it can be read as JSON, else a string.

    Raises:
        UsageFault: a file that cannot be read.
    """
    properties = schema.get("properties", {})
    return {key: _value(_contents(text), properties.get(key, {}), schema) for key, text in pairs.items()}


def check_arguments(tool: str, arguments: Mapping[str, Any], schema: Schema) -> None:
    """Refuse what is misspelt or forgotten before anything is sent.

    Raises:
        UsageFault: an unknown or a missing argument; the message lists what the tool takes.
    """
    properties = schema.get("properties", {})
    unknown = [key for key in arguments if key not in properties]
    if unknown and not schema.get("additionalProperties"):
        raise UsageFault(f"{tool} has no argument {unknown[0]!r}.{_described(schema)}")
    missing = [key for key in schema.get("required", ()) if key not in arguments]
    if missing:
        raise UsageFault(f"{tool} needs {' and '.join(repr(key) for key in missing)}.{_described(schema)}")


def _contents(text: str) -> str:
    """`text`, or what the file named by `@file` holds; `@@` begins a value that begins with `@`."""
    if text.startswith("@@") or not text.startswith("@"):
        return text.removeprefix("@")
    try:
        return Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8 text"
        raise UsageFault(f"Cannot read {text[1:]}: {reason}.") from None


def _value(text: str, schema: Schema, root: Schema) -> Any:
    if "string" in _types(schema, root, depth=0):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _types(schema: Any, root: Schema, depth: int) -> set[str]:
    """The JSON types that a schema names, through references and alternatives; empty when it names none."""
    if not isinstance(schema, Mapping) or depth > 8:
        return set()
    named = schema.get("type", [])
    types = {named} if isinstance(named, str) else set(named)
    values = [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else [])]
    types |= {"string" for value in values if isinstance(value, str)}
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        types |= _types(root.get("$defs", {}).get(reference.removeprefix("#/$defs/")), root, depth + 1)
    for word in _COMPOUNDS:
        for part in schema.get(word, ()):
            types |= _types(part, root, depth + 1)
    return types


def _described(schema: Schema) -> str:
    """What a tool takes, one line an argument."""
    required = schema.get("required", ())
    lines = []
    for key, about in schema.get("properties", {}).items():
        kind = " or ".join(sorted(_types(about, schema, depth=0) - {"null"})) or "any"
        need = "required" if key in required else f"default {json.dumps(about.get('default'))}"
        lines.append(f"\n    {key}  {kind}, {need}{_about(about)}")
    return " It takes:" + "".join(lines) if lines else " It takes no arguments."


def _about(schema: Any) -> str:
    text = schema.get("description") if isinstance(schema, Mapping) else None
    return f": {text}" if text else ""
