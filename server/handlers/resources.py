"""Resources that Taskmill itself serves: artifacts, and the output of tasks.

A caller reads only what belongs to it; everything else about resources is left to the SDK.
"""

import json
from collections.abc import Iterable
from typing import Any

from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS

from taskmill.engine.artifact import ARTIFACT_URI, OUTPUT_URI, Artifact, Chunk
from taskmill.server.protocol.errors import wire_errors
from taskmill.store.tasks.tasks import TaskStore

__all__ = ["artifact_path", "base_of", "is_own", "read_own"]

_READ_LIMIT = 1024 * 1024
"""Bytes of an artifact that fit into one reply; larger ones are fetched over HTTP."""
_NDJSON = "application/x-ndjson"


def is_own(uri: str) -> bool:
    """Whether Taskmill serves the resource."""
    return uri.startswith((ARTIFACT_URI, OUTPUT_URI))


def artifact_path(artifact_id: str) -> str:
    """The HTTP address of an artifact, below the server's root."""
    return f"/api/artifacts/{artifact_id}"


async def read_own(store: TaskStore, uri: str, who: str, base: str | None) -> Iterable[ReadResourceContents]:
    """The contents, for the principal `who`. `base`: this server's address as the client wrote it, None = no HTTP.

    Raises:
        MCPError: unknown, expired, of another principal, or too large for a reply.
    """
    with wire_errors():
        if uri.startswith(ARTIFACT_URI):
            artifact = await store.artifacts.find(uri.removeprefix(ARTIFACT_URI), who)
            _refuse_large(artifact, base)
            content = b"".join([piece async for piece in store.artifacts.read(artifact)])
            return [ReadResourceContents(content=_readable(content, artifact), mime_type=artifact.mime_type)]
        task_id, _, what = uri.removeprefix(OUTPUT_URI).partition("/")
        if what != "output":
            raise MCPError(INVALID_PARAMS, f"Unknown resource: {uri}", {"uri": uri})
        await store.read(task_id, who)
        return [_output(await store.output.read(task_id, count=100_000))]


def _refuse_large(artifact: Artifact, base: str | None) -> None:
    if artifact.size <= _READ_LIMIT:
        return
    where = artifact_path(artifact.id)
    address = base.rstrip("/") + where if base else where
    how = f"Get it over HTTP from {address}" if base else f"Get {address} from an HTTP replica"
    raise MCPError(
        INVALID_PARAMS,
        f"The artifact has {artifact.size:,} bytes; a reply carries {_READ_LIMIT:,}. {how}, which takes ranges.",
        {"reason": "too_large", "size": artifact.size, "limit": _READ_LIMIT, "href": address},
    )


def _readable(content: bytes, artifact: Artifact) -> str | bytes:
    kind = artifact.mime_type.partition(";")[0].strip().lower()
    if kind.startswith("text/") or kind in ("application/json", _NDJSON) or kind.endswith(("+json", "+xml")):
        try:
            return content.decode()
        except UnicodeDecodeError:
            return content
    return content


def _output(chunks: list[Chunk]) -> ReadResourceContents:
    """Plain text if all of it is text, else one JSON value a line."""
    if all(isinstance(chunk.content, str) for chunk in chunks):
        return ReadResourceContents(content="".join(chunk.content for chunk in chunks), mime_type="text/plain")
    lines = "".join(json.dumps(chunk.content, ensure_ascii=False) + "\n" for chunk in chunks)
    return ReadResourceContents(content=lines, mime_type=_NDJSON)


def base_of(request: Any) -> str | None:
    """The address of this server as the client of an HTTP request wrote it."""
    url = getattr(request, "base_url", None)
    return str(url) if url is not None else None
