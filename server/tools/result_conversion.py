"""Converts what a tool returned into a result, as the SDK does, and refuses what JSON cannot hold.

Where the SDK would publish text that is no JSON, or the address of an object, the call fails in words that say where.
The same for every tool and every client: in the foreground, in a worker, in a tool process, and in tests.
"""

import dataclasses
import inspect
import json
import typing
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterable, Awaitable, Callable, Iterator, Mapping, MutableMapping
from math import isfinite, isnan
from types import GeneratorType
from typing import Annotated, Any, get_args, get_origin

import structlog
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import FuncMetadata
from mcp_types import CallToolResult, InputRequiredResult, TextContent
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from taskmill.server.protocol.sdk_private import replace_metadata

__all__ = ["convert_results", "is_without_words", "returns_bare_dict"]

log = structlog.get_logger()
_BARE_DICTS = (
    *(dict, OrderedDict, defaultdict, Mapping, MutableMapping),
    *(typing.Dict, typing.Mapping, typing.MutableMapping),  # noqa: UP006  # an author may write either form
)
_OBJECT = {"type": "object", "additionalProperties": True}
_SIGNS = ("NaN", "Infinity", " at 0x", "<built-in", "<class ")
"""What a text that the SDK made shows if a value had no JSON form. A text of the author's may show the same."""
_SCALARS = (str, int)
_DEEPEST = 200
_LONGEST_PATH = 200


def returns_bare_dict(function: Callable[..., Any]) -> bool:
    """Whether its return annotation says that there is an object, and nothing of its members."""
    annotation = inspect.signature(function, eval_str=True).return_annotation
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return any(annotation is one for one in _BARE_DICTS)


def is_without_words(kind: type) -> bool:
    """Whether a class does not say how its objects are written: they would be written as their addresses."""
    return not any("__str__" in vars(one) or "__repr__" in vars(one) for one in kind.__mro__[:-1])


def convert_results(tool: Tool, *, returns_object: bool, is_structured: bool | None) -> None:
    """Have the tool's results converted here.

    `returns_object`: it is annotated `-> dict`, so its schema is an object with any members.
    `is_structured`: as the author gave `structured_output`; False = its results are text only.
    """
    replace_metadata(
        tool,
        _CheckedMetadata,
        tool_name=tool.name,
        may_structure=is_structured is not False,
        **({"output_model": None, "output_schema": dict(_OBJECT), "wrap_output": False} if returns_object else {}),
    )


class _CheckedMetadata(FuncMetadata):
    tool_name: str
    may_structure: bool

    def convert_result(self, result: Any) -> CallToolResult | InputRequiredResult:
        """The result of a call.

        Raises:
            ToolError: it holds what JSON cannot, or is not the object that the tool promises.
        """
        try:
            converted = super().convert_result(result)
        except (PydanticSerializationError, ValidationError, RecursionError):
            self._refuse(_unfit(result, is_strict=True))
            raise
        if isinstance(converted, InputRequiredResult):
            return converted
        if not isinstance(result, CallToolResult):
            self._refuse(_unfit_in_text(result, converted))
            if self.output_model is None and self.may_structure:
                converted = self._with_object(result, converted)
        self._refuse(_unfit_in_object(result, converted.structured_content))
        return converted

    def _with_object(self, result: Any, converted: CallToolResult) -> CallToolResult:
        """The same with structured content, if the result is one object and not content of its own."""
        if _is_object(result):
            value = to_jsonable_python(result, fallback=str)
            if isinstance(value, dict):
                return converted.model_copy(update={"structured_content": value})
        if self.output_schema is not None:
            self._refuse(f"result is {_kind(result)}, and the tool is annotated to return a dict")
        return converted

    def _refuse(self, reason: str | None) -> None:
        if reason is None:
            return
        log.error("tool.result_refused", tool=self.tool_name, reason=reason)
        raise ToolError(reason)


def _is_object(result: Any) -> bool:
    if isinstance(result, BaseModel):
        return not hasattr(result, "type")  # a block of content has one
    return isinstance(result, Mapping) or (dataclasses.is_dataclass(result) and not isinstance(result, type))


def _unfit_in_text(result: Any, converted: CallToolResult) -> str | None:
    """What is wrong with a result that the SDK wrote as text."""
    if isinstance(result, str):
        return None
    texts = (block.text for block in converted.content if isinstance(block, TextContent))
    if not any(sign in text for text in texts for sign in _SIGNS):
        return None
    return _unfit(result, is_strict=False)


def _unfit_in_object(result: Any, structured: Any) -> str | None:
    """What is wrong with structured content."""
    if structured is None or (len(structured) == 1 and isinstance(structured.get("result"), _SCALARS)):
        return None  # what most tools return; to write it as JSON costs as much as all other checks
    try:
        json.dumps(structured, allow_nan=False)
    except (TypeError, ValueError):
        if isinstance(result, CallToolResult):
            return _unfit(structured, "structuredContent", is_strict=True)
        return _unfit(result, is_strict=True) or _unfit(structured, is_strict=True)
    return None


def _unfit(value: Any, where: str = "result", depth: int = 0, *, is_strict: bool) -> str | None:
    """Which part of a value has no JSON form, None if all of it has one.

    `is_strict`: also an object of a class of its own that can write itself as a text.
    """
    if depth > _DEEPEST:
        return f"{where[:_LONGEST_PATH]}... is nested too deep, or holds itself"
    if isinstance(value, float):
        return None if isfinite(value) else f"{where} is {_not_finite(value)}, a number that JSON does not have"
    if value is None or isinstance(value, str | int):
        return None
    members = _members(value, where)
    if members is not None:
        parts = (_unfit(one, path, depth + 1, is_strict=is_strict) for path, one in members)
        return next((part for part in parts if part is not None), None)
    return _unfit_leaf(value, where, is_strict=is_strict)


def _members(value: Any, where: str) -> Iterator[tuple[str, Any]] | None:
    """Path and value of each part; None if the value has no parts."""
    if isinstance(value, Mapping):
        return ((_member(where, key), one) for key, one in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return ((f"{where}[{at}]", one) for at, one in enumerate(value))
    if isinstance(value, BaseModel):
        return ((f"{where}.{name}", getattr(value, name, None)) for name in type(value).model_fields)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return ((f"{where}.{field.name}", getattr(value, field.name, None)) for field in dataclasses.fields(value))
    return None


def _unfit_leaf(value: Any, where: str, *, is_strict: bool) -> str | None:
    if isinstance(value, bytes | bytearray | memoryview):
        if _is_text(value):
            return None
        return f"{where} is {type(value).__name__} and no text: return it with ctx.attach, as an Image, or as base64"
    if isinstance(value, Awaitable):
        if inspect.iscoroutine(value):
            value.close()  # else Python warns of it, at a line that says nothing
        return f"{where} is {_kind(value)} that no one awaited: write `await` before the call that makes it"
    if isinstance(value, GeneratorType | AsyncIterable):
        return f"{where} is {_kind(value)}: return a list of what it yields"
    try:
        to_json(value)
        return None
    except (PydanticSerializationError, ValueError):
        if not is_strict and _has_words(value):
            return None
    return f"{where} is {_kind(value)}, which has no JSON form: return a dict, a dataclass or a pydantic model"


def _has_words(value: Any) -> bool:
    """Whether the class defines how its objects are written; a function or a class shows an address."""
    return not callable(value) and not is_without_words(type(value))


def _is_text(value: bytes | bytearray | memoryview) -> bool:
    try:
        bytes(value).decode()
    except UnicodeDecodeError:
        return False
    return True


def _member(where: str, key: Any) -> str:
    return f"{where}.{key}" if isinstance(key, str) and key.isidentifier() else f"{where}[{key!r}]"


def _not_finite(value: float) -> str:
    return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _kind(value: Any) -> str:
    """`a Row`, `an Order`."""
    name = type(value).__name__
    return f"an {name}" if name[0].lower() in "aeiou" else f"a {name}"
