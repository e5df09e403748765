"""Arguments of a call from command line words, by the tool's input schema. The server validates the values."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from taskmill.cli.errors import UsageError
from taskmill.server.protocol.arguments import argument_usage, types_of

__all__ = ["check_arguments", "parse_arguments", "parse_object", "split_pairs"]

Schema = Mapping[str, Any]


def split_pairs(words: Sequence[str]) -> dict[str, str]:
    """`key=value` words as a mapping.

    Raises:
        UsageError: a word has no `=`, or a key is given twice.
    """
    pairs: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UsageError(f"{word!r} is not an argument: write key=value, key=@file, or --args with JSON.")
        if key in pairs:
            raise UsageError(f"The argument {key!r} is given twice.")
        pairs[key] = value
    return pairs


def parse_object(text: str) -> dict[str, Any]:
    """The value of `--args`.

    Raises:
        UsageError: it is not a JSON object.
    """
    try:
        value = json.loads(_contents(text))
    except ValueError as exc:
        raise UsageError(f"--args is not JSON: {exc}.") from None
    except RecursionError:
        raise UsageError("--args is nested too deeply.") from None
    if not isinstance(value, dict):
        raise UsageError('--args must be a JSON object, as in --args \'{"path": "."}\'.')
    return value


def parse_arguments(pairs: Mapping[str, str], schema: Schema) -> dict[str, Any]:
    """The arguments. A value is JSON if the schema takes no string there and the text is JSON; else it is a string.

    Raises:
        UsageError: a file cannot be read.
    """
    properties = schema.get("properties", {})
    return {key: _value(_contents(text), properties.get(key, {}), schema) for key, text in pairs.items()}


def check_arguments(tool: str, arguments: Mapping[str, Any], schema: Schema) -> None:
    """Refuse misspelt and missing arguments before anything is sent.

    Raises:
        UsageError: an unknown or a missing argument; the message lists what the tool takes.
    """
    properties = schema.get("properties", {})
    unknown = [key for key in arguments if key not in properties]
    if unknown and not schema.get("additionalProperties"):
        raise UsageError(f"{tool} has no argument {unknown[0]!r}.{argument_usage(schema)}")
    missing = [key for key in schema.get("required", ()) if key not in arguments]
    if missing:
        raise UsageError(f"{tool} needs {' and '.join(repr(key) for key in missing)}.{argument_usage(schema)}")


def _contents(text: str) -> str:
    """`text`, or the contents of the file for `@file`; a value that begins with `@` is written with `@@`."""
    if text.startswith("@@") or not text.startswith("@"):
        return text.removeprefix("@")
    try:
        return Path(text[1:]).read_text(encoding="utf-8")
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8 text"
        raise UsageError(f"Cannot read {text[1:]}: {reason}.") from None


def _value(text: str, schema: Schema, root: Schema) -> Any:
    if "string" in types_of(schema, root):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
