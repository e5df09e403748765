"""What the SDK makes of a client's words about itself, remembered: clients of 2026-07-28 send them with every request.

To check and to write them again at each call cost a fifth of the creation of a task.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp_types.version import LATEST_MODERN_VERSION
from starlette.requests import Request
from starlette.types import Scope

from taskmill.server.context.detached_request import detached_request
from taskmill.server.fast_path.requests import FastRequest
from taskmill.server.tools.submission import client_as_stored

__all__ = ["KnownClient", "KnownClients"]

_MOST = 64
_LONGEST = 2048
"""Characters of what a client says of itself; longer words are not remembered."""
_encode = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class KnownClient:
    """One client, as it describes itself."""

    session: ServerSession
    """Cannot reach the client, and so all its requests can share it."""
    stored: Mapping[str, Any]
    """What its tasks store of it."""

    def request(self, call: FastRequest, scope: Scope, lifespan_state: Any) -> ServerRequestContext[Any, Any]:
        """One of its calls as the SDK hands it on."""
        return ServerRequestContext(
            session=self.session,
            lifespan_context=lifespan_state,
            protocol_version=LATEST_MODERN_VERSION,
            method="tools/call",
            params=call.params,
            request_id=call.id,
            request=Request(scope),
        )


class KnownClients:
    """The last clients of one process."""

    def __init__(self) -> None:
        self._known: dict[str, KnownClient] = {}

    def of(self, call: FastRequest) -> KnownClient:
        """The client of a call."""
        words = _encode([call.info, call.capabilities])
        client = self._known.get(words)
        if client is None:
            request = detached_request("", None, client_info=call.info, capabilities=call.capabilities)
            client = KnownClient(request.session, client_as_stored(request.session))
            if len(words) <= _LONGEST:
                if len(self._known) >= _MOST:
                    self._known.clear()
                self._known[words] = client
        return client
