"""The ASGI application of a server: which part answers which request, and behind which checks."""

from collections.abc import Callable
from functools import partial
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import RequestBodyLimitMiddleware, TransportSecuritySettings
from starlette.applications import Starlette
from starlette.types import ASGIApp

from taskmill.server.api.access import Access
from taskmill.server.fast_path.front import Front
from taskmill.server.fast_path.middleware import FastPath
from taskmill.server.http.middleware import EraRouter
from taskmill.server.http.scope_challenge import ScopeGate
from taskmill.server.sessions.endpoint import SessionEndpoint
from taskmill.server.site import furnish
from taskmill.server.tools.runtime import ServerRuntime
from taskmill.server.tools.submission import Submission

__all__ = ["build_app"]


def build_app(
    server: MCPServer[Any],
    runtime: ServerRuntime,
    *,
    path: str,
    host: str,
    hosts: TransportSecuritySettings,
    json_response: bool,
    operator_token: str | None,
    fast_paths: Submission | None,
) -> Starlette:
    """The application; see `TaskServer.http_app`. `hosts`: the names that requests may be sent to.

    `fast_paths`: None = there are none.
    """
    app = server.streamable_http_app(
        streamable_http_path=path, json_response=json_response, transport_security=hosts, host=host
    )
    runtime.serves_http = True
    manager: Any = server.session_manager  # its ASGI application stands behind the check of tokens
    legacy = SessionEndpoint(server._lowlevel_server, runtime, hosts, json_only=json_response)
    runtime.on_close(legacy.close)
    limited = RequestBodyLimitMiddleware(legacy, manager.max_request_body_size)
    auth = server.settings.auth if server._token_verifier else None
    app_of_era: ASGIApp = EraRouter(legacy=limited, modern=manager.asgi_app)
    front: Callable[[ASGIApp], ASGIApp] | None = None
    if fast_paths is not None:
        hasten = partial(FastPath, runtime=runtime, hosts=hosts, server=server._lowlevel_server, submission=fast_paths)
        if auth:
            app_of_era = hasten(app_of_era)
        else:
            front = partial(
                Front, hasten=hasten, registry=runtime.tools, path=path, has_operator=operator_token is not None
            )
    manager.asgi_app = ScopeGate(app_of_era, runtime.tools, server.settings.auth)
    access = Access(hosts, auth, operator_token is not None)
    furnish(app, runtime, access, mcp_path=path, operator_token=operator_token, front=front)
    return app
