"""Asks a tool's questions (elicitation) in the terminal: one line for each property of the requested schema."""

import sys
from collections.abc import Mapping
from typing import Any

from mcp_types import ElicitRequestParams, ElicitRequestURLParams, ElicitResult

from taskmill.cli.terminal.escaping import printable
from taskmill.cli.terminal.input import read_line

__all__ = ["ask_person"]

_YES = {"y", "yes", "true", "1"}
_NO = {"n", "no", "false", "0"}

Content = dict[str, str | int | float | bool | list[str] | None]


class _Declined(Exception):
    """The person typed nothing where an answer is required."""


class _InvalidAnswer(Exception):
    """The typed text is not a valid answer; the error's text gives the reason."""


async def ask_person(question: ElicitRequestParams) -> ElicitResult:
    """The person's answer: `accept` with values, `decline` if a required one is empty, `cancel` at the end of input."""
    print(f"\n{printable(question.message, lines=True)}", file=sys.stderr)
    if isinstance(question, ElicitRequestURLParams):
        print(f"Open {printable(question.url)}", file=sys.stderr)
        reply = await read_line("Done? [y/N] ")
        return ElicitResult(action="accept" if (reply or "").strip().lower() in _YES else "decline")
    schema = question.requested_schema
    properties: Mapping[str, Any] = schema.get("properties", {})
    if not properties:
        reply = await read_line("Do you agree? [y/N] ")
        if reply is None:
            return ElicitResult(action="cancel")
        return ElicitResult(action="accept" if reply.strip().lower() in _YES else "decline", content={})
    required = schema.get("required", ())
    print("(an empty answer declines)" if required else "(empty answers are left out)", file=sys.stderr)
    content: Content = {}
    try:
        for name, property_schema in properties.items():
            value = await _ask_property(name, property_schema, required=name in required)
            if value is not None:
                content[name] = value
    except _Declined:
        return ElicitResult(action="decline")
    except EOFError:
        return ElicitResult(action="cancel")
    return ElicitResult(action="accept", content=content)


async def _ask_property(name: str, schema: Mapping[str, Any], *, required: bool) -> Any:
    """The value, None = left out.

    Raises:
        _Declined: the answer is empty and required.
        EOFError: end of input.
    """
    choices = _choices(schema)
    prompt = _prompt(name, schema, choices)
    while True:
        reply = await read_line(prompt)
        if reply is None:
            raise EOFError
        reply = reply.strip()
        if not reply:
            if "default" in schema:
                return schema["default"]
            if required:
                raise _Declined
            return None
        try:
            return _parse_answer(reply, schema, choices)
        except _InvalidAnswer as exc:
            print(f"  {exc}", file=sys.stderr)


def _prompt(name: str, schema: Mapping[str, Any], choices: Mapping[str, str]) -> str:
    label = schema.get("description") or schema.get("title") or name
    hint = "y/n" if schema.get("type") == "boolean" else ", ".join(choices.values())
    if schema.get("type") == "array":
        hint += "; several with commas"
    default = schema.get("default")
    if isinstance(default, bool):
        default = "y" if default else "n"
    shown = f" [{hint}]" if hint else ""
    shown += f" ({default})" if default is not None else ""
    return printable(f"  {label}{shown}: ")


def _choices(schema: Mapping[str, Any]) -> dict[str, str]:
    """Allowed values and their names, for a choice of one or of several."""
    source = schema.get("items", {}) if schema.get("type") == "array" else schema
    if "enum" in source:
        names = source.get("enumNames", source["enum"])
        return {str(value): str(name) for value, name in zip(source["enum"], names, strict=False)}
    options = source.get("oneOf") or source.get("anyOf") or ()
    return {str(one["const"]): str(one.get("title", one["const"])) for one in options if "const" in one}


def _parse_answer(reply: str, schema: Mapping[str, Any], choices: Mapping[str, str]) -> Any:
    match schema.get("type"):
        case "boolean":
            return _yes_or_no(reply)
        case "integer":
            return _number(reply, int, "a whole number")
        case "number":
            return _number(reply, float, "a number")
        case "array":
            return [_chosen(part.strip(), choices) for part in reply.split(",") if part.strip()]
        case _:
            return _chosen(reply, choices) if choices else reply


def _yes_or_no(reply: str) -> bool:
    if reply.lower() in _YES | _NO:
        return reply.lower() in _YES
    raise _InvalidAnswer("Please answer y or n.")


def _number(reply: str, kind: type[int] | type[float], wanted: str) -> int | float:
    try:
        return kind(reply)
    except ValueError:
        raise _InvalidAnswer(f"Please give {wanted}.") from None


def _chosen(reply: str, choices: Mapping[str, str]) -> str:
    for value, name in choices.items():
        if reply.lower() in (value.lower(), name.lower()):
            return value
    raise _InvalidAnswer(f"Please choose one of: {', '.join(choices.values())}.")
