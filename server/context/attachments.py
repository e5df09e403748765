"""What an author hands to `ctx.attach` - a path or a stream of bytes - and the resource link that comes of it."""

import mimetypes
import os
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path

import anyio
from mcp_types import ResourceLink

from taskmill.engine.artifact import PIECE, Artifact
from taskmill.engine.context import TaskContext

__all__ = ["attach", "link_to"]

_UNKNOWN = "application/octet-stream"
_LONGEST_NAME = 255


async def attach(
    task: TaskContext, source: str | os.PathLike[str] | AsyncIterable[bytes], name: str | None, mime_type: str | None
) -> ResourceLink:
    """Keep a file or stream with the task; the link to it.

    `name` defaults to the path's last part, `mime_type` to what the name suggests.

    Raises:
        OSError: the path cannot be read.
        TypeError: `source` is neither a path nor an async stream of bytes.
        ValueError: a stream without a name, or a name that cannot be shown.
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        content: AsyncIterable[bytes] = _read(path)
        name = name or path.name
    elif isinstance(source, AsyncIterable):
        content = _checked(source)
    else:
        raise TypeError(f"attach takes a path or an async stream of bytes, not {type(source).__name__}")
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise ValueError(f"attach needs name=..., 1 to {_LONGEST_NAME} printable characters")
    guessed = mime_type or mimetypes.guess_type(name)[0] or _UNKNOWN
    if not guessed.isprintable() or not guessed.isascii():
        raise ValueError(f"mime_type must be like text/csv, not {guessed!r}")
    return link_to(await task.attach(content, name=name, mime_type=guessed))


def link_to(artifact: Artifact) -> ResourceLink:
    """The content block that names an artifact."""
    return ResourceLink(uri=artifact.uri, name=artifact.name, mime_type=artifact.mime_type, size=artifact.size)


async def _read(path: Path) -> AsyncIterator[bytes]:
    async with await anyio.open_file(path, "rb") as file:
        while piece := await file.read(PIECE):
            yield piece


async def _checked(stream: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    async for piece in stream:
        if not isinstance(piece, bytes | bytearray | memoryview):
            raise TypeError(f"attach takes a stream of bytes, and it gave a {type(piece).__name__}: encode text first")
        yield bytes(piece)
