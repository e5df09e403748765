"""`/api/tasks/{id}/output`: the output of a task, as JSON up to now or as SSE while it is written."""

import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from sse_starlette import ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from taskmill.engine.artifact import Chunk
from taskmill.engine.status import TERMINAL, Status
from taskmill.server.api.access import caller_of
from taskmill.server.api.requests import RETRY_MS, cursor_of, json_response, task_id_of
from taskmill.server.protocol.shapes_2026 import iso
from taskmill.server.streams.event_stream import EventStream
from taskmill.server.tools.runtime import ServerRuntime
from taskmill.store.connection.retry import until_available
from taskmill.store.tasks.tasks import OPERATOR, TaskStore

__all__ = ["output_routes"]

_PAGE = 1000
"""Chunks that one reply shows at most; `?after=` goes on."""


def output_routes(runtime: ServerRuntime) -> list[BaseRoute]:
    """The route, below `/api`."""

    async def output(request: Request) -> Response:
        """Chunks after `Last-Event-ID` or `?after=`: SSE to a caller that accepts it, until the task has ended."""
        store, task_id, after = runtime.store, task_id_of(request), cursor_of(request)
        caller = caller_of(request)
        view = await store.read(task_id, caller.principal)
        caller.record_read(task_id, view.record.tool)
        chunks = await store.output.read(task_id, after=after, count=_PAGE)
        if "text/event-stream" in request.headers.get("accept", ""):
            if view.record.is_terminal and not chunks:
                return Response(status_code=204)  # an EventSource does not reconnect after it
            return EventStream(_events(store, task_id, after))
        return json_response(
            {
                "chunks": [_chunk_json(chunk) for chunk in chunks],
                "next": chunks[-1].number if chunks else after,
                "ended": view.record.is_terminal and len(chunks) < _PAGE,
            }
        )

    return [Route("/tasks/{task_id}/output", output, methods=["GET"])]


async def _events(store: TaskStore, task_id: str, after: int) -> AsyncIterator[ServerSentEvent]:
    """A `chunk` for every chunk, its number as id; at the end one `end` with the task's status."""
    retry: int | None = RETRY_MS
    async with store.output.follow(task_id) as subscription:
        while True:
            await subscription.updates()
            status, chunks = await until_available(partial(_read, store, task_id, after))
            for chunk in chunks:
                yield ServerSentEvent(_json(_chunk_json(chunk)), id=str(chunk.number), event="chunk", retry=retry)
                retry, after = None, chunk.number
            if len(chunks) == _PAGE:
                subscription.notify(task_id)
            elif status in TERMINAL:
                yield ServerSentEvent(_json({"status": status.value}), event="end")
                return


async def _read(store: TaskStore, task_id: str, after: int) -> tuple[Status, list[Chunk]]:
    """The task's state, then what it emitted before it was read: an ended task has nothing more."""
    record = (await store.read(task_id, OPERATOR)).record
    return record.status, await store.output.read(task_id, after=after, count=_PAGE)


def _chunk_json(chunk: Chunk) -> dict[str, Any]:
    return {"number": chunk.number, "attempt": chunk.attempt, "at": iso(chunk.at_ms), "content": chunk.content}


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
