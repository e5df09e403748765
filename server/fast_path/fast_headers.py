"""Reads the headers of the requests that the fast paths answer, and asks the SDK's own check of them.

Says what a request has to say for itself; None leaves it to the SDK.
"""

from functools import lru_cache

from mcp.server.transport_security import TransportSecurityMiddleware, TransportSecuritySettings
from mcp_types.version import LATEST_MODERN_VERSION
from starlette.requests import Request
from starlette.types import Scope

from taskmill.server.fast_path.requests import METHODS

__all__ = ["Headers", "HostCheck", "read_headers"]

Headers = dict[str, str]
_ASKED = {
    name.encode(): name
    for name in ("content-type", "accept", "mcp-protocol-version", "mcp-method", "mcp-name", "host", "origin")
}
_BOTH = {"application/json", "text/event-stream"}
_MOST = 64
_LONGEST = 256


def read_headers(scope: Scope) -> Headers | None:
    """Those that matter of a request that may have a fast path; None = it has none.

    One whose value has blanks around it, which not every HTTP parser takes away, is for `TrimmedHeaders`.
    """
    found: Headers = {}
    for raw, value in scope["headers"]:
        name = _ASKED.get(raw)
        if name is not None:
            if name in found or value != value.strip(b" \t"):
                return None
            found[name] = value.decode("latin-1")
        elif raw == b"traceparent" or raw.startswith(b"mcp-param-"):
            return None
    if found.get("mcp-protocol-version") != LATEST_MODERN_VERSION or found.get("mcp-method") not in METHODS:
        return None
    return found if _accepts_both(found.get("accept", "")) else None


@lru_cache(maxsize=_MOST)
def _accepts_both(accept: str) -> bool:
    return {one.strip() for one in accept.split(",")} >= _BOTH


class HostCheck:
    """The SDK's check of Host, Origin and content type; what has passed it once is not asked again."""

    def __init__(self, hosts: TransportSecuritySettings) -> None:
        self._security = TransportSecurityMiddleware(hosts)
        self._passed: set[tuple[str | None, ...]] = set()

    async def passes(self, scope: Scope, headers: Headers) -> bool:
        """Whether the SDK would let this POST in."""
        asked = headers.get("host"), headers.get("origin"), headers.get("content-type")
        if asked in self._passed:
            return True
        if await self._security.validate_request(Request(scope), is_post=True) is not None:
            return False
        if len(self._passed) < _MOST and all(len(one or "") <= _LONGEST for one in asked):
            self._passed.add(asked)
        return True
