"""Reads headers and bodies of the requests that the fast paths answer: those written exactly as the specification says.

A reader returns what the request asks for, or None: then the SDK must handle it, which also knows every way in which a
request can be wrong. The check of Host, Origin and content type is the one of all requests.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mcp.server.transport_security import TransportSecuritySettings
from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    PROTOCOL_VERSION_META_KEY,
    ClientCapabilities,
    Implementation,
)
from mcp_types.version import LATEST_MODERN_VERSION
from pydantic import BaseModel, ValidationError
from starlette.types import Scope

from taskmill.server.http.transport_security import HeaderChecks
from taskmill.server.protocol.shapes_2026 import EXTENSION, LONGEST_TASK_ID
from taskmill.store.formats.json_text import read_json

__all__ = ["METHODS", "FastRequest", "Headers", "HostCheck", "read_headers", "read_request"]

METHODS: Mapping[str, frozenset[str]] = {
    "tasks/get": frozenset({"taskId"}),
    "tasks/update": frozenset({"taskId", "inputResponses"}),
    "tasks/cancel": frozenset({"taskId"}),
    "tools/call": frozenset({"name", "arguments"}),
}
"""Method -> its parameters; all of them must be there, and `_meta` beside them."""
_REQUEST = frozenset({"jsonrpc", "id", "method", "params"})
_META = frozenset({PROTOCOL_VERSION_META_KEY, CLIENT_CAPABILITIES_META_KEY, CLIENT_INFO_META_KEY})
Headers = dict[str, str]
_READ_HEADERS = {
    name.encode(): name
    for name in ("content-type", "accept", "mcp-protocol-version", "mcp-method", "mcp-name", "host", "origin")
}
_RESPONSE_TYPES = {"application/json", "text/event-stream"}
_MOST_REMEMBERED = 64
_LONGEST_HEADER = 256


def read_headers(scope: Scope) -> Headers | None:
    """The headers that matter for a fast path; None = the request has none.

    A value with blanks around it, which not every HTTP parser removes, is left to `TrimmedHeaders`.
    """
    found: Headers = {}
    for raw, value in scope["headers"]:
        name = _READ_HEADERS.get(raw)
        if name is not None:
            if name in found or value != value.strip(b" \t"):
                return None
            found[name] = value.decode("latin-1")
        elif raw == b"traceparent" or raw.startswith(b"mcp-param-"):
            return None
    if found.get("mcp-protocol-version") != LATEST_MODERN_VERSION or found.get("mcp-method") not in METHODS:
        return None
    return found if _accepts_both(found.get("accept", "")) else None


@lru_cache(maxsize=_MOST_REMEMBERED)
def _accepts_both(accept: str) -> bool:
    return {media_type.strip() for media_type in accept.split(",")} >= _RESPONSE_TYPES


class HostCheck:
    """The check of Host, Origin and content type; values that have passed once are not checked again."""

    def __init__(self, hosts: TransportSecuritySettings) -> None:
        self._checks = HeaderChecks(hosts)
        self._passed: set[tuple[str | None, ...]] = set()

    def passes(self, scope: Scope, headers: Headers) -> bool:
        """Whether this POST would be accepted."""
        checked = headers.get("host"), headers.get("origin"), headers.get("content-type")
        if checked in self._passed:
            return True
        if self._checks.refusal(scope, needs_json=True) is not None:
            return False
        if len(self._passed) < _MOST_REMEMBERED and all(len(value or "") <= _LONGEST_HEADER for value in checked):
            self._passed.add(checked)
        return True


@dataclass(frozen=True, slots=True)
class FastRequest:
    """One request of a client that declares tasks."""

    id: int | str
    method: str
    params: dict[str, Any]
    capabilities: dict[str, Any]
    """What the client declared; checked."""
    info: Any
    """Name and version of the client; checked. None = it did not send them."""

    @property
    def routing_name(self) -> str:
        """The value that the header `Mcp-Name` must have."""
        name: str = self.params["name" if self.method == "tools/call" else "taskId"]
        return name


def read_request(body: bytes) -> FastRequest | None:
    """The request in a body; None = the SDK must read it."""
    try:
        request: Any = read_json(body)
        params, request_id, method = request["params"], request["id"], request["method"]
        meta = params["_meta"]
        capabilities, revision = meta[CLIENT_CAPABILITIES_META_KEY], meta[PROTOCOL_VERSION_META_KEY]
        declared = capabilities["extensions"][EXTENSION]
        is_exact = request.keys() == _REQUEST and params.keys() - {"_meta"} == METHODS[method]
        if not is_exact or not meta.keys() <= _META or not isinstance(declared, dict):
            return None
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return None
    if (request["jsonrpc"], revision) != ("2.0", LATEST_MODERN_VERSION) or type(request_id) not in (int, str):
        return None
    info = meta.get(CLIENT_INFO_META_KEY)
    if not _are_capabilities(capabilities) or (CLIENT_INFO_META_KEY in meta and not _is_client(info)):
        return None
    if not _is_typed(params):
        return None
    return FastRequest(request_id, method, params, capabilities, info)


def _is_typed(params: Mapping[str, Any]) -> bool:
    task_id, name = params.get("taskId", ""), params.get("name", "")
    objects = (params.get("arguments", {}), params.get("inputResponses", {}))
    return (
        isinstance(task_id, str)
        and len(task_id) <= LONGEST_TASK_ID
        and isinstance(name, str)
        and all(isinstance(value, dict) for value in objects)
    )


def _are_capabilities(declared: dict[str, Any]) -> bool:
    extensions = declared.get("extensions", {})
    if len(declared) == 1 and all(name.isascii() and value == {} for name, value in extensions.items()):
        return True  # what most clients send; the model would accept it, and costs more than all other checks here
    return _fits(ClientCapabilities, declared)


def _is_client(info: Any) -> bool:
    is_plain = isinstance(info, dict) and info.keys() == {"name", "version"}
    if is_plain and all(isinstance(value, str) and value.isascii() for value in info.values()):
        return True
    return _fits(Implementation, info)


def _fits(shape: type[BaseModel], value: Any) -> bool:
    try:
        shape.model_validate(value, by_name=False)
    except ValidationError:
        return False
    return True
