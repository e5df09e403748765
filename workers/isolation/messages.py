"""The messages between a worker and a tool process: JSON objects, and exceptions as JSON.

A message is sent as four bytes of length and a JSON object. Nothing that is read here is ever executed: the class of an
exception is looked up among those that this process has already imported.
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

from taskmill.engine.events import RemoteTrace

__all__ = [
    "MOST_BYTES",
    "Message",
    "RemoteCrash",
    "UnfitMessage",
    "encoded",
    "exception_from_json",
    "exception_to_json",
    "messages_from",
    "read_message",
]

Message = dict[str, Any]
_LENGTH_BYTES = 4
MOST_BYTES = 256 * 1024 * 1024
"""Of one message to a worker: beyond it a tool could fill the worker's memory."""


class UnfitMessage(ValueError):
    """A tool process has sent what is no message."""


class RemoteCrash(RuntimeError):
    """An error in another process, of a class that this one does not have."""


def encoded(message: Message) -> bytes:
    """One message as bytes.

    Raises:
        TypeError, ValueError: it is not JSON.
    """
    body = json.dumps(message, separators=(",", ":")).encode()
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


async def read_message(reader: asyncio.StreamReader) -> Message | None:
    """The next message; None when the connection has ended.

    Raises:
        UnfitMessage: what came is none, or is too large.
    """
    try:
        head = await reader.readexactly(_LENGTH_BYTES)
        if (size := int.from_bytes(head, "big")) > MOST_BYTES:
            raise UnfitMessage(f"a message of {size:,} bytes")
        body = await reader.readexactly(size)
    except (asyncio.IncompleteReadError, OSError):
        return None
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise UnfitMessage("it is not JSON") from exc
    if not isinstance(message, dict):
        raise UnfitMessage("it is not an object")
    return message


def messages_from(connection: socket.socket) -> Iterator[Message]:
    """Every message that arrives, for a thread that waits for them; ends with the connection, however that ends."""
    stream = connection.makefile("rb")
    with suppress(OSError):  # a process that is killed with unread messages resets the connection
        while len(head := stream.read(_LENGTH_BYTES)) == _LENGTH_BYTES:
            body = stream.read(size := int.from_bytes(head, "big"))
            if len(body) < size:
                return
            message: Message = json.loads(body)
            yield message


def exception_to_json(exc: BaseException) -> Message:
    """An exception as JSON: class, text, those of its attributes that are JSON, traceback."""
    kind = type(exc)
    return {
        "module": kind.__module__,
        "name": kind.__qualname__,
        "text": str(exc),
        "facts": {name: value for name, value in vars(exc).items() if _is_json(value)},
        "lengths": {name: value.total_seconds() for name, value in vars(exc).items() if isinstance(value, timedelta)},
        "trace": "".join(traceback.format_exception(exc)),
    }


def exception_from_json(message: Message) -> BaseException:
    """The exception again, of the same class if this process has it, else a `RemoteCrash`."""
    exc = _instance(message)
    kind = message["name"] if message["module"] == "builtins" else f"{message['module']}.{message['name']}"
    exc.__cause__ = RemoteTrace(kind, message["text"], message["trace"])
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
