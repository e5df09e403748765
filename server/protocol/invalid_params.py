"""Which field of a request is wrong, and what it should be: the words for the SDK's bare "Invalid request parameters".

The words name fields and types, never values: they may be a caller's secrets, and are sent back and logged.
"""

from collections.abc import Mapping
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS
from pydantic import ValidationError

__all__ = ["invalid_params"]

_TEXT = "Invalid request parameters"
_SHOULD = "Input should be "
_AND_SHOULD = " and should be "
_WORDS = (("a valid dictionary", "an object"), ("a valid integer", "an integer"), ("a valid ", "a "))
_MOST = 5
_JSON_TYPES: Mapping[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}


def invalid_params(exc: ValidationError, params: Mapping[str, Any] | None) -> MCPError | None:
    """The error for a request with these `params` that did not validate; None = the error is not about the request."""
    if not exc.title.endswith(("Request", "Params")):
        return None
    request = {"params": params if params is not None else {}}
    found: dict[str, list[str]] = {}
    for error in exc.errors(include_url=False, include_input=False, include_context=False):
        place = error["loc"] if error["loc"][:1] == ("params",) else ("params", *error["loc"])
        field, value = _field(request, place, is_missing=error["type"] == "missing")
        found.setdefault(field, []).append(_problem(error["type"], error["msg"], value))
    fields = list(found)[:_MOST]
    words = "; ".join(f"{field} {_joined(found[field])}" for field in fields)
    return MCPError(INVALID_PARAMS, f"{_TEXT}: {words}.", {"fields": fields})


def _field(request: Any, place: tuple[str | int, ...], *, is_missing: bool) -> tuple[str, Any]:
    """The path of a field and its value, without the names of alternatives that pydantic tried, which its place has."""
    path, value = "", request
    for number, part in enumerate(place):
        is_there = (isinstance(value, dict) and part in value) or (
            isinstance(value, list) and isinstance(part, int) and part < len(value)
        )
        if is_there:
            value = value[part]
        elif not (is_missing and number == len(place) - 1):
            continue
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.removeprefix("."), value


def _problem(kind: str, text: str, value: Any) -> str:
    if kind == "missing":
        return "is missing"
    if not text.startswith(_SHOULD):
        return "is not valid"
    wanted = text.removeprefix(_SHOULD).partition(", ")[0].partition(" or instance of ")[0]
    for pythons, jsons in _WORDS:
        wanted = wanted.replace(pythons, jsons)
    return f"is {_JSON_TYPES.get(type(value), 'a value')}{_AND_SHOULD}{wanted}"


def _joined(problems: list[str]) -> str:
    first, *others = dict.fromkeys(problems)
    alternatives = [other.partition(_AND_SHOULD)[2] for other in others]
    return " or ".join([first, *filter(None, alternatives)])
