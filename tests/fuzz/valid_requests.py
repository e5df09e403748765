"""Requests as an honest client of either revision writes them: the samples that hostile ones are made from."""

import json
from typing import Any

from tests.fuzz.asgi import Answer, Asked, Header

__all__ = ["JSON_HEADERS", "LEGACY", "MODERN", "api", "bearer", "legacy", "messages", "modern"]

MODERN, LEGACY = "2026-07-28", "2025-11-25"
Json = dict[str, Any]
HOST = (b"host", b"127.0.0.1:8000")
JSON_HEADERS: tuple[Header, ...] = (
    HOST,
    (b"content-type", b"application/json"),
    (b"accept", b"application/json, text/event-stream"),
)
_NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}


def bearer(token: str | None) -> tuple[Header, ...]:
    """The header of a token; none for None."""
    return () if token is None else ((b"authorization", b"Bearer " + token.encode()),)


def envelope(params: Json, *, with_tasks: bool = True) -> Json:
    """The parameters of a request of 2026-07-28, with what its `_meta` must say."""
    extensions = {"io.modelcontextprotocol/tasks": {}} if with_tasks else {}
    capabilities = {"extensions": extensions, "elicitation": {}, "sampling": {}, "roots": {}}
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": capabilities,
        **params.get("_meta", {}),
    }
    return {**params, "_meta": meta}


def modern_headers(method: str, params: Json) -> tuple[Header, ...]:
    """Those of a request of 2026-07-28; what names something must name it there, too."""
    said = params.get(_NAMED.get(method, "taskId"))
    named = ((b"mcp-name", said.encode("utf-8", "replace")),) if isinstance(said, str) and said.isprintable() else ()
    return (*JSON_HEADERS, (b"mcp-protocol-version", MODERN.encode()), (b"mcp-method", method.encode()), *named)


def modern(method: str, params: Json, token: str | None = None, *, with_tasks: bool = True, **more: Any) -> Asked:
    """A request of 2026-07-28."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": envelope(params, with_tasks=with_tasks)}
    headers = (*modern_headers(method, params), *bearer(token))
    return Asked("POST", "/mcp", headers, json.dumps(body).encode(), **more)


def session_headers(session: str | None) -> tuple[Header, ...]:
    """Those of a request of 2025-11-25."""
    named = () if session is None else ((b"mcp-session-id", session.encode()),)
    return (*JSON_HEADERS, (b"mcp-protocol-version", LEGACY.encode()), *named)


def legacy(message: Json | None, session: str | None, token: str | None = None, **more: Any) -> Asked:
    """A message of 2025-11-25, or GET for None."""
    headers = (*session_headers(session), *more.pop("headers", ()), *bearer(token))
    if message is None:
        return Asked(more.pop("method", "GET"), "/mcp", headers, **more)
    return Asked("POST", "/mcp", headers, json.dumps({"jsonrpc": "2.0", **message}).encode(), **more)


def api(method: str, path: str, token: str | None = None, headers: tuple[Header, ...] = (), **more: Any) -> Asked:
    """A request to the HTTP API."""
    return Asked(method, path, (HOST, (b"content-type", b"application/json"), *headers, *bearer(token)), **more)


def messages(answer: Answer) -> list[Json]:
    """The JSON-RPC messages of an answer, whichever way they came.

    Raises:
        ValueError: one of them is not JSON.
    """
    if not answer.is_stream:
        return [_parsed(answer.body)] if answer.body else []
    lines = answer.body.decode().splitlines()
    return [_parsed(line[5:].encode()) for line in lines if line.startswith("data:") and line[5:].strip()]


def _parsed(text: bytes) -> Json:
    found: Json = json.loads(text.decode("utf-8"), parse_constant=_no_number)
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
