"""Server-sent events as bytes: JSON-RPC messages, the event after which a client can resume, keep-alives."""

from collections.abc import Mapping
from typing import Any

from taskmill.store.formats.json_text import write_ascii_json

__all__ = ["BACKLOG", "HEADERS", "PING", "event", "priming"]

HEADERS = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"connection", b"keep-alive"),
    (b"x-accel-buffering", b"no"),
)
BACKLOG = 1024
"""Messages kept for a slow reader of a stream; with one more its stream is ended."""
PING = b": ping\n\n"
"""A comment: keeps proxies from closing a silent stream, and carries no message."""


def event(message: Mapping[str, Any], event_id: str | None = None) -> bytes:
    """One JSON-RPC message; with an id a client can resume after it."""
    named = b"id: %s\n" % event_id.encode() if event_id is not None else b""
    return b"event: message\n%sdata: %s\n\n" % (named, write_ascii_json(message))


def priming(event_id: str, retry_ms: int) -> bytes:
    """The event without data that comes first: from now on the client can resume (transports, "Sending Messages")."""
    return f"id: {event_id}\nretry: {retry_ms}\ndata: \n\n".encode()
