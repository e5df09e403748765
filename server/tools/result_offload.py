"""Results too large to travel inside a reply: their largest parts become artifacts, and links take their place.

A text becomes a text file, an image or sound its own bytes, structured content a JSON file. Small parts stay.
"""

import base64
import binascii
import json
from collections.abc import AsyncIterator
from typing import Any

from mcp_types import CallToolResult

from taskmill.engine.artifact import PIECE
from taskmill.engine.context import TaskContext
from taskmill.server.context.attachments import link_to

__all__ = ["offload_large_parts"]

_WORTH_MOVING = 1024
"""Bytes of a part that is worth moving: a link is hardly smaller than less."""
_MOST_BYTES = 4
"""Bytes of one character in UTF-8, at most."""
_TEXT, _JSON, _BYTES = "text/plain", "application/json", "application/octet-stream"
_STRUCTURED = -1
"""The index of the structured content, beside those of the content's blocks."""
Json = dict[str, Any]


async def offload_large_parts(result: CallToolResult, task: TaskContext) -> Json:
    """The result as JSON, with parts moved out, largest first, until it is within the task's inline limit.

    Raises:
        ArtifactTooLarge: a part is larger than the installation keeps.
    """
    value: Json = result.model_dump(by_alias=True, mode="json", exclude_none=True)
    limit = task.inline_limit
    if limit is None or _MOST_BYTES * len(repr(value)) <= limit or (over := _size(value) - limit) <= 0:
        return value
    blocks: list[Json] = value["content"]
    structured = value.get("structuredContent")
    sizes = {at: _size(block) for at, block in enumerate(blocks)}
    sizes[_STRUCTURED] = _size(structured)
    copy = _type_of_text_copy(structured, blocks)
    for at in sorted(sizes, key=lambda at: (-sizes[at], at == _STRUCTURED)):
        if over <= 0 or sizes[at] <= _WORTH_MOVING:
            break
        over -= sizes[at]
        if at == _STRUCTURED:
            del value["structuredContent"]
            if copy is None:
                blocks.append(await _attach(task, _encoded(json.dumps(structured)), "result.json", _JSON))
        elif (moved := await _offloaded(task, blocks[at], at + 1, _JSON if copy == _JSON else _TEXT)) is not None:
            blocks[at] = moved
    return value


def _type_of_text_copy(structured: Any, blocks: list[Json]) -> str | None:
    """The media type of a text that repeats the structured content, None if there is none.

    With such a text the structured content need not be kept twice.
    """
    match blocks:
        case [{"type": "text", "text": str(text)}] if structured is not None:
            if structured == {"result": text}:
                return _TEXT
            try:
                return _JSON if json.loads(text) == structured else None
            except ValueError:
                return None
        case _:
            return None


async def _offloaded(task: TaskContext, block: Json, number: int, text_type: str) -> Json | None:
    """The link that replaces a block, None if blocks of its kind cannot be moved."""
    match block:
        case {"type": "text", "text": str(text)}:
            name = f"result-{number}.{'json' if text_type == _JSON else 'txt'}"
            return await _attach(task, _encoded(text), name, text_type)
        case {"type": "image" | "audio" as kind, "data": str(data), "mimeType": str(mime)}:
            return await _attach(task, _decoded(data), f"{kind}-{number}", mime)
        case {"type": "resource", "resource": {"uri": str(uri), **rest}}:
            content = _encoded(str(rest["text"])) if "text" in rest else _decoded(str(rest.get("blob", "")))
            return await _attach(task, content, uri, str(rest.get("mimeType", _TEXT if "text" in rest else _BYTES)))
        case _:
            return None


async def _attach(task: TaskContext, content: bytes, name: str, mime_type: str) -> Json:
    artifact = await task.attach(_pieces(content), name=name, mime_type=mime_type)
    link: Json = link_to(artifact).model_dump(by_alias=True, mode="json", exclude_none=True)
    return link


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(content), PIECE):
        yield content[at : at + PIECE]


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return _encoded(data)


def _size(value: Any) -> int:
    """Bytes of the JSON form, nearly: an escaped character counts as the character."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(_encoded(value))
    if isinstance(value, dict):
        size = 0
        for key, one in value.items():
            size += _size(key) + _size(one) + 6
        return size
    if isinstance(value, list):
        return sum(map(_size, value)) + len(value)
    return 8
