"""Which era's transport serves an HTTP request. Only chooses."""

from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["EraRouter"]

_HEADER = b"mcp-protocol-version"


class EraRouter:
    """Requests that name a revision before 2026, or none, are the sessions' business; all others the SDK's."""

    def __init__(self, *, legacy: ASGIApp, modern: ASGIApp) -> None:
        self._legacy = legacy
        self._modern = modern

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        version = next((value.decode("latin-1") for name, value in scope["headers"] if name == _HEADER), None)
        is_legacy = version is None or version in HANDSHAKE_PROTOCOL_VERSIONS
        await (self._legacy if is_legacy else self._modern)(scope, receive, send)
