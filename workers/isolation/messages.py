"""What a worker and the process of an isolated tool say to each other: JSON in frames, and exceptions as JSON.

A frame is four bytes of length and a JSON object. Nothing that is read here is ever executed: an exception's class is
looked up among those this process has already imported.
"""

import asyncio
import json
import socket
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

__all__ = ["Message", "RemoteCrash", "exception_of", "frame", "frames_of", "read_frame", "told"]

Message = dict[str, Any]
_HEAD = 4


class RemoteCrash(RuntimeError):
    """A crash in another process, of a class that this one does not have."""


class _RemoteTrace(Exception):
    """Shows the other process's traceback in this one's log."""

    def __str__(self) -> str:
        return f"in the tool's own process:\n{self.args[0]}"


def frame(message: Message) -> bytes:
    """One message, ready to be sent.

    Raises:
        TypeError, ValueError: it is not JSON.
    """
    body = json.dumps(message, separators=(",", ":")).encode()
    return len(body).to_bytes(_HEAD, "big") + body


async def read_frame(reader: asyncio.StreamReader) -> Message | None:
    """The next message, None at the end of the line."""
    try:
        head = await reader.readexactly(_HEAD)
        body = await reader.readexactly(int.from_bytes(head, "big"))
    except (asyncio.IncompleteReadError, OSError):
        return None
    message: Message = json.loads(body)
    return message


def frames_of(line: socket.socket) -> Iterator[Message]:
    """Every message that comes, in a thread that waits for it; ends with the line, however that ends."""
    stream = line.makefile("rb")
    with suppress(OSError):  # who was killed with words unread resets the line
        while len(head := stream.read(_HEAD)) == _HEAD:
            body = stream.read(size := int.from_bytes(head, "big"))
            if len(body) < size:
                return
            message: Message = json.loads(body)
            yield message


def told(exc: BaseException) -> Message:
    """An exception as JSON: class, text, what of its attributes is JSON, traceback."""
    kind = type(exc)
    return {
        "module": kind.__module__,
        "name": kind.__qualname__,
        "text": str(exc),
        "facts": {name: value for name, value in vars(exc).items() if _is_json(value)},
        "lengths": {name: value.total_seconds() for name, value in vars(exc).items() if isinstance(value, timedelta)},
        "trace": "".join(traceback.format_exception(exc)),
    }


def exception_of(message: Message) -> BaseException:
    """The exception that was told, as near as this process can come: of the same class, if it is here."""
    exc = _instance(message)
    exc.__cause__ = _RemoteTrace(message["trace"])
    return exc


def _instance(message: Message) -> BaseException:
    kind: Any = sys.modules.get(message["module"])
    for name in message["name"].split("."):
        kind = getattr(kind, name, None)
    if not isinstance(kind, type) or not issubclass(kind, BaseException) or issubclass(kind, BaseExceptionGroup):
        return RemoteCrash(f"{message['name']}: {message['text']}")
    try:
        exc: BaseException = kind.__new__(kind, message["text"])
        exc.args = (message["text"],)
        vars(exc).update(message["facts"])
        vars(exc).update({name: timedelta(seconds=value) for name, value in message["lengths"].items()})
    except Exception:
        return RemoteCrash(f"{message['name']}: {message['text']}")
    return exc


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True
