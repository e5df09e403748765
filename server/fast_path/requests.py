"""Reads the requests that the fast paths answer: those written as the specification says, with nothing beside that.

Says what a request asks for; None leaves it to the SDK, which also knows every way in which a request can be wrong.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    PROTOCOL_VERSION_META_KEY,
    ClientCapabilities,
    Implementation,
)
from mcp_types.version import LATEST_MODERN_VERSION
from pydantic import BaseModel, ValidationError

from taskmill.server.protocol.shapes_2026 import EXTENSION

__all__ = ["METHODS", "FastRequest", "read_request"]

METHODS: Mapping[str, frozenset[str]] = {
    "tasks/get": frozenset({"taskId"}),
    "tasks/update": frozenset({"taskId", "inputResponses"}),
    "tasks/cancel": frozenset({"taskId"}),
    "tools/call": frozenset({"name", "arguments"}),
}
"""Method -> its parameters, all of them given; `_meta` comes on top."""
_META = frozenset({PROTOCOL_VERSION_META_KEY, CLIENT_CAPABILITIES_META_KEY, CLIENT_INFO_META_KEY})
_LONGEST_ID = 256


@dataclass(frozen=True, slots=True)
class FastRequest:
    """One request of a client that declares tasks."""

    id: int | str
    method: str
    params: dict[str, Any]
    capabilities: dict[str, Any]
    """What the client declared, valid."""
    info: Any
    """Who the client is, valid; None if it does not say."""

    @property
    def named(self) -> str:
        """What the header `Mcp-Name` has to say."""
        name: str = self.params["name" if self.method == "tools/call" else "taskId"]
        return name


def read_request(body: bytes) -> FastRequest | None:
    """The request in a body."""
    try:
        request: Any = json.loads(body)
        params, request_id, method = request["params"], request["id"], request["method"]
        meta = params["_meta"]
        capabilities, revision = meta[CLIENT_CAPABILITIES_META_KEY], meta[PROTOCOL_VERSION_META_KEY]
        declared = capabilities["extensions"][EXTENSION]
        plain = request.keys() == {"jsonrpc", "id", "method", "params"} and params.keys() - {"_meta"} == METHODS[method]
        if not plain or not meta.keys() <= _META or not isinstance(declared, dict):
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
        and len(task_id) <= _LONGEST_ID
        and isinstance(name, str)
        and all(isinstance(one, dict) for one in objects)
    )


def _are_capabilities(declared: dict[str, Any]) -> bool:
    extensions = declared.get("extensions", {})
    if len(declared) == 1 and all(name.isascii() and one == {} for name, one in extensions.items()):
        return True  # as most clients say it; the model, which costs more than all the rest here, would agree
    return _fits(ClientCapabilities, declared)


def _is_client(info: Any) -> bool:
    is_plain = isinstance(info, dict) and info.keys() == {"name", "version"}
    if is_plain and all(isinstance(one, str) and one.isascii() for one in info.values()):
        return True
    return _fits(Implementation, info)


def _fits(shape: type[BaseModel], value: Any) -> bool:
    try:
        shape.model_validate(value, by_name=False)
    except ValidationError:
        return False
    return True
