"""Arguments of a tool beside its schema: what is wrong with them, and what the tool takes, in words for its caller.

Every kind of server answers wrong arguments with these words. Values are shown only where they are short: they are the
caller's own. Nothing here runs a tool, or knows how one is stored.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import UnknownType
from jsonschema.exceptions import ValidationError as SchemaFault
from jsonschema.validators import create
from pydantic import ValidationError
from referencing import Registry
from referencing.exceptions import Unresolvable

__all__ = ["argument_usage", "faults_by_schema", "faults_of", "in_own_words", "refused_arguments", "types_of"]

Schema = Mapping[str, Any]
COMBINATORS = ("anyOf", "oneOf", "allOf")
_LONGEST_VALUE = 60
_LONGEST_DESCRIPTION = 200
_MOST_FAULTS = 5
_MOST_LISTED = 40
_MOST_CHECKED = 2000
"""Values in one call's arguments that are compared with a schema on the event loop; with more, the tool checks them."""
_REQUIRED = {"missing", "missing_argument", "missing_keyword_only_argument", "missing_positional_only_argument"}
_UNKNOWN = {"unexpected_keyword_argument", "extra_forbidden"}
_YES_OR_NO = {"0", "1", "on", "off", "t", "f", "true", "false", "y", "n", "yes", "no"}
"""Texts that many a tool takes for a boolean."""
_LIMITS = {
    "minimum": "should be at least {}",
    "maximum": "should be at most {}",
    "exclusiveMinimum": "should be more than {}",
    "exclusiveMaximum": "should be less than {}",
    "multipleOf": "should be a multiple of {}",
    "minLength": "should have at least {} characters",
    "maxLength": "should have at most {} characters",
    "minItems": "should have at least {} items",
    "maxItems": "should have at most {} items",
    "const": "should be {!r}",
}


def refused_arguments(tool: str, faults: Sequence[str], schema: Schema | None = None) -> str:
    """What the caller of a tool reads whose arguments do not fit. `schema`: of the tool, None = it is not known."""
    shown = "; ".join(faults[:_MOST_FAULTS])
    more = f"; and {len(faults) - _MOST_FAULTS} more" if len(faults) > _MOST_FAULTS else ""
    return f"Error executing tool {tool}: {shown}{more}" + ("" if schema is None else f".{argument_usage(schema)}")


def faults_of(error: ValidationError) -> list[str]:
    """What pydantic found: `n should be a valid integer, not 'abc'`."""
    return [_pydantic_fault(fault) for fault in error.errors(include_url=False)]


def in_own_words(text: str, error: BaseException) -> str:
    """The text of an error, without what pydantic itself says of the values that it was raised from."""
    for behind in _causes(error):
        if isinstance(behind, ValidationError):
            text = text.replace(str(behind), "; ".join(faults_of(behind)))
    return text


def _causes(error: BaseException) -> Iterator[BaseException]:
    """What an error was raised from, and that from."""
    seen = {id(error)}
    while (cause := error.__cause__) is not None and id(cause) not in seen:
        seen.add(id(cause))
        error = cause
        yield cause


def faults_by_schema(arguments: Mapping[str, Any], schema: Schema) -> list[str]:
    """What is wrong with arguments, as far as the tool itself is sure to find it wrong; empty = nothing is.

    Many tools take the text of a number for the number, so a text is no fault where its JSON would be none. Patterns,
    formats and conditions are left to the tool, and so are arguments of many values: the author of a
    schema, or of a call, must not be able to keep this process busy.
    """
    if not _is_small(arguments):
        return []
    # A `$ref` that leads nowhere or round in circles, or a keyword of a wrong form: the tool has to judge.
    with suppress(Unresolvable, UnknownType, RecursionError, TypeError, ValueError, KeyError, AttributeError):
        checker = _Checker(dict(schema), registry=Registry())
        faults = islice(checker.iter_errors(dict(arguments)), 100)
        found = [text for fault in faults for text in _schema_fault(fault, schema)]
        return list(dict.fromkeys(found))
    return []


def argument_usage(schema: Schema) -> str:
    """The arguments that a tool takes, one line each."""
    required = _listed(schema.get("required"))
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or not properties:
        return " It takes no arguments."
    lines = [
        _usage_line(key, about, schema, key in required) for key, about in islice(properties.items(), _MOST_LISTED)
    ]
    if len(properties) > _MOST_LISTED:
        lines.append(f"    and {len(properties) - _MOST_LISTED} more")
    return "\n".join([" It takes:", *lines])


def types_of(schema: Any, root: Schema, depth: int = 0) -> set[str]:
    """The JSON types that a schema names, also in references and alternatives; empty if it names none."""
    if not isinstance(schema, Mapping) or depth > 8:
        return set()
    named = schema.get("type")
    types = {named} if isinstance(named, str) else {one for one in _listed(named) if isinstance(one, str)}
    values = [*_listed(schema.get("enum")), schema.get("const")]
    types |= {"string" for value in values if isinstance(value, str)}
    reference, definitions = schema.get("$ref"), root.get("$defs")
    if isinstance(reference, str) and reference.startswith("#/$defs/") and isinstance(definitions, Mapping):
        types |= types_of(definitions.get(reference.removeprefix("#/$defs/")), root, depth + 1)
    for word in COMBINATORS:
        for part in _listed(schema.get(word)):
            types |= types_of(part, root, depth + 1)
    return types


def _usage_line(key: str, about: Any, root: Schema, is_required: bool) -> str:
    kind = " or ".join(sorted(types_of(about, root) - {"null"})) or "any"
    default = json.dumps(about.get("default") if isinstance(about, Mapping) else None)
    return f"    {key}  {kind}, {'required' if is_required else f'default {default}'}{_description(about)}"


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _pydantic_fault(fault: Mapping[str, Any]) -> str:
    """`n should be a valid integer, not 'abc'`."""
    where = _place(fault["loc"])
    text, kind = str(fault["msg"]), str(fault["type"])
    if kind in _REQUIRED:
        return f"{where} is required"
    if kind in _UNKNOWN:
        return f"{where} is not known"
    if not text.startswith("Input should "):
        return f"{where}: {text.removeprefix('Value error, ').removeprefix('Assertion failed, ')}"
    return f"{where} {text.removeprefix('Input ')}{_shown(fault.get('input'))}"


def _schema_fault(fault: SchemaFault, root: Schema) -> list[str]:
    """The same of what a schema forbids; of required and unknown arguments one for each."""
    path = tuple(fault.absolute_path)
    value: Any = fault.instance
    rule: Any = fault.validator_value
    within: Any = fault.schema
    match fault.validator:
        case "required":
            return [f"{_place((*path, name))} is required" for name in rule if name not in value]
        case "additionalProperties" if rule is False:
            known = within.get("properties", {})
            return [f"{_place((*path, name))} is not known" for name in value if name not in known]
        case "type":
            wanted = [rule] if isinstance(rule, str) else rule
            return [f"{_place(path)} should be {_either([_article(one) for one in wanted])}{_shown(value)}"]
        case "enum":
            return [f"{_place(path)} should be {_either([repr(one) for one in rule])}{_shown(value)}"]
        case "anyOf" | "oneOf":
            types = sorted(types_of(within, root))
            if types:
                return [f"{_place(path)} should be {_either([_article(one) for one in types])}{_shown(value)}"]
            return [f"{_place(path)} has none of the forms that it may have"]
        case str(name) if name in _LIMITS:
            return [f"{_place(path)} {_LIMITS[name].format(rule)}{_shown(value)}"]
        case _:
            return [f"{_place(path)} breaks the rule {fault.validator!r} of the tool's schema"]


def _place(path: Sequence[Any]) -> str:
    return ".".join(str(part) for part in path) or "the arguments"


def _shown(value: Any) -> str:
    text = repr(value)
    return f", not {text}" if isinstance(value, str | int | float) and len(text) <= _LONGEST_VALUE else ""


def _article(kind: Any) -> str:
    text = str(kind)
    return text if text == "null" else f"an {text}" if text[:1] in "aio" else f"a {text}"


def _either(words: list[str]) -> str:
    listed = words[:_MOST_LISTED]
    return listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} or {listed[-1]}"


def _description(schema: Any) -> str:
    text = schema.get("description") if isinstance(schema, Mapping) else None
    if not isinstance(text, str) or not text.strip():
        return ""
    line = text.strip().splitlines()[0]
    return f": {line}" if len(line) <= _LONGEST_DESCRIPTION else f": {line[:_LONGEST_DESCRIPTION]}..."


def _is_small(arguments: Any) -> bool:
    waiting, count = [arguments], 0
    while waiting:
        value = waiting.pop()
        inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ()
        count += 1 + len(inner)
        if count > _MOST_CHECKED:
            return False
        waiting += inner
    return True


@lru_cache(maxsize=256)
def _parsed(text: str) -> tuple[Any]:
    """What a text is as JSON; the text itself where it is none."""
    try:
        return (json.loads(text),)
    except (ValueError, RecursionError):
        return (text,)


Rule = Callable[[Any, Any, Any, Any], Iterator[SchemaFault]]


def _type(validator: Any, types: Any, value: Any, schema: Any) -> Iterator[SchemaFault]:
    wanted = [types] if isinstance(types, str) else types
    if any(validator.is_type(value, one) for one in wanted):
        return
    if isinstance(value, str):
        (read,) = _parsed(value)
        if any(validator.is_type(read, one) for one in wanted):
            return
        if "boolean" in wanted and value.lower() in _YES_OR_NO:
            return
    if isinstance(value, bool | int | float) and _takes_scalar(wanted, schema, value):
        return
    yield SchemaFault("")


def _takes_scalar(wanted: Sequence[str], schema: Any, value: float) -> bool:
    """Whether a number or boolean is what many a tool takes there: 0 and 1 as booleans, numbers as times."""
    if isinstance(value, bool):
        return "integer" in wanted or "number" in wanted
    return ("boolean" in wanted and value in (0, 1)) or ("string" in wanted and "format" in schema)


def _enum(validator: Any, values: Any, value: Any, schema: Any) -> Iterator[SchemaFault]:
    read = _parsed(value)[0] if isinstance(value, str) else value
    if value not in values and read not in values:
        yield SchemaFault("")


def _no_others(validator: Any, others: Any, value: Any, schema: Any) -> Iterator[SchemaFault]:
    if "patternProperties" in schema:
        return
    yield from _DRAFT["additionalProperties"](validator, others, value, schema)


_DRAFT: Mapping[str, Rule] = Draft202012Validator.VALIDATORS
_KEPT = ("$ref", "allOf", "anyOf", "oneOf", "items", "prefixItems", "properties", "required", *_LIMITS)
_Checker: Any = create(
    meta_schema={},
    validators={
        **{name: _DRAFT[name] for name in _KEPT},
        "type": _type,
        "enum": _enum,
        "additionalProperties": _no_others,
    },
    type_checker=Draft202012Validator.TYPE_CHECKER,
)
"""Knows the keywords that are cheap to check and that every tool means in one way."""
