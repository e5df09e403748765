"""What requests and replies of the HTTP API share: ids, numbers, cursors, streams."""

import json
import re
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from taskmill.engine.errors import BadArguments, TaskNotFound
from taskmill.server.protocol.shapes_2026 import LONGEST_TASK_ID
from taskmill.store.formats.filters import FILTER_WORDS, TaskFilter, filter_of

__all__ = [
    "RETRY_MS",
    "JsonReply",
    "body_of",
    "cursor_of",
    "filter_in_query",
    "json_response",
    "number_of",
    "task_id_of",
]

RETRY_MS = 1000
"""How soon the reader of a broken stream is to reconnect."""
_NUMBER = re.compile(r"[0-9]{1,15}")


def json_response(content: object, *, status_code: int = 200) -> JSONResponse:
    """A reply that no cache may keep."""
    return JsonReply(content, status_code=status_code, headers={"Cache-Control": "no-store"})


class JsonReply(JSONResponse):
    """Half a surrogate pair, which JSON from elsewhere may hold, is sent as the escape that it came as."""

    def render(self, content: Any) -> bytes:
        try:
            return super().render(content)
        except UnicodeEncodeError:
            return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


def task_id_of(request: Request, name: str = "task_id") -> str:
    """The id in the path.

    Raises:
        TaskNotFound: it is longer than any id.
    """
    task_id = str(request.path_params[name])
    if len(task_id) > LONGEST_TASK_ID:
        raise TaskNotFound
    return task_id


async def body_of(request: Request, names: tuple[str, ...], *, most: int = 64 * 1024) -> dict[str, Any]:
    """The JSON object of a request; no body is an empty one.

    `names`: the fields that it may have; `most`: bytes that it may have.

    Raises:
        BadArguments: it is no such object.
    """
    raw = b""
    async for part in request.stream():
        raw += part
        if len(raw) > most:
            raise BadArguments(f"The body must have {most:,} bytes at most.")
    try:
        body = json.loads(raw) if raw.strip() else {}
    except (ValueError, RecursionError):
        raise BadArguments("The body must be JSON.") from None
    if not isinstance(body, dict) or set(body) - set(names):
        raise BadArguments(f"The body must be a JSON object with no other fields than {', '.join(names)}.")
    return body


def filter_in_query(request: Request) -> TaskFilter:
    """Which tasks of a list are wanted.

    Raises:
        BadArguments: a parameter that makes no sense.
    """
    query = request.query_params
    return filter_of({name: ",".join(query.getlist(name)) for name in FILTER_WORDS if name in query})


def cursor_of(request: Request) -> int:
    """Number of the last event the caller has, 0 = none; a browser that reconnects names it in the header.

    Raises:
        BadArguments: it is no number.
    """
    named = request.headers.get("last-event-id", "")
    if not named:
        return number_of(request, "after", 0)
    if not _NUMBER.fullmatch(named):
        raise BadArguments("Last-Event-ID must be the number of an event of this task.")
    return int(named)


def number_of(request: Request, name: str, default: int, *, least: int = 0, most: int = 10**15) -> int:
    """A number in the query.

    Raises:
        BadArguments: it is none, or out of bounds.
    """
    given = request.query_params.get(name)
    if given is None:
        return default
    if not _NUMBER.fullmatch(given) or not least <= int(given) <= most:
        raise BadArguments(f"{name} must be a whole number from {least} to {most}.")
    return int(given)
