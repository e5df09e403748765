"""`/api/artifacts/{id}`: the bytes of an artifact over HTTP, whole or in part, streamed from their store."""

import re
from collections.abc import AsyncIterator
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from taskmill.engine.artifact import Artifact
from taskmill.server.api.access import caller_of
from taskmill.server.api.requests import task_id_of
from taskmill.server.tools.runtime import ServerRuntime
from taskmill.store.artifacts.artifacts import ArtifactReader

__all__ = ["artifact_response", "artifact_routes"]

_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*", re.IGNORECASE | re.ASCII)


def artifact_routes(runtime: ServerRuntime) -> list[BaseRoute]:
    """The route, below `/api`."""

    async def serve(request: Request) -> Response:
        artifacts = runtime.store.artifacts
        caller, artifact_id = caller_of(request), task_id_of(request, "artifact_id")
        artifact = await artifacts.find(artifact_id, caller.principal)
        caller.record_read(None, target=artifact_id)
        return await artifact_response(artifacts, artifact, request)

    return [Route("/artifacts/{artifact_id}", serve, methods=["GET"])]


async def artifact_response(artifacts: ArtifactReader, artifact: Artifact, request: Request) -> Response:
    """The artifact as a file to save: 200, a part of it: 206, unchanged: 304, a range beyond its end: 416."""
    etag = f'"{artifact.digest}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        # What a tool made must not run as a page of this server.
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(artifact.name.rpartition('/')[2], safe='')}",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "X-Content-Type-Options": "nosniff",
    }
    if _is_unmodified(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    byte_range = _byte_range(request.headers, artifact.size, etag)
    if byte_range is None:
        headers["Content-Range"] = f"bytes */{artifact.size}"
        return Response(status_code=416, headers=headers)
    start, stop = byte_range
    is_part = (start, stop) != (0, artifact.size)
    if is_part:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{artifact.size}"
    headers["Content-Length"] = str(stop - start)
    body = _Body(artifacts.read(artifact, start, stop))
    if request.method != "HEAD":
        await body.begin()
    return StreamingResponse(body, 206 if is_part else 200, headers, media_type=artifact.mime_type)


class _Body:
    """The bytes as they are read; the first are read before the reply, so that missing bytes are still an error."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self._first = b""

    async def begin(self) -> None:
        """Read the first piece.

        Raises:
            ArtifactsUnavailable, StoreUnavailable, DecryptionFailed: they cannot be read.
        """
        async for piece in self._pieces:
            self._first = piece
            return

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._run()

    async def _run(self) -> AsyncIterator[bytes]:
        yield self._first
        async for piece in self._pieces:
            yield piece


def _is_unmodified(named: str | None, etag: str) -> bool:
    """If-None-Match (RFC 9110, 13.1.2): weak comparison, a list, or an asterisk."""
    if named is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in named.split(",")]
    return etag in tags or "*" in tags


def _byte_range(headers: Headers, size: int, etag: str) -> tuple[int, int] | None:
    """First byte and the one after the last; None = the range lies beyond the end (RFC 9110, 14.2).

    One range is served; several, another unit or a malformed one are ignored, as is one of a changed artifact.
    """
    given, condition = headers.get("range"), headers.get("if-range")
    match = _RANGE.fullmatch(given) if given and condition in (None, etag) else None
    if match is None or match.groups() == ("", ""):
        return 0, size
    first, last = match.groups()
    if not first:
        return (max(0, size - int(last)), size) if int(last) > 0 and size else None
    start, stop = int(first), int(last) + 1 if last else size
    if last and stop <= start:
        return 0, size
    return (start, min(stop, size)) if start < size else None
