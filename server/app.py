"""The ASGI application of a server: which part answers which request, and behind which checks.

`build_app` makes it for a server of the SDK; `both_eras` and `add_http_api` are the parts that other hosts need too.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import (
    DEFAULT_MAX_REQUEST_BODY_SIZE,
    RequestBodyLimitMiddleware,
    TransportSecuritySettings,
)
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import ASGIApp

from taskmill.server.api.access import Access, CheckedHosts, OperatorToken
from taskmill.server.api.health import health_routes
from taskmill.server.api.metrics import RequestCounter, metrics_routes
from taskmill.server.api.openapi import description_route
from taskmill.server.api.routes import api_routes
from taskmill.server.audit.requests import AuditedRequests
from taskmill.server.fast_path.middleware import FastPath, FastPathRouter
from taskmill.server.http.application import EndpointPath, HttpApp, LifespanRequired
from taskmill.server.http.cors import Cors, check_any_origin
from taskmill.server.http.large_bodies import LargeBodies
from taskmill.server.http.middleware import ClientDisconnects, EmptyRefusals, EraRouter
from taskmill.server.http.redirects import redirect_without_host
from taskmill.server.http.request_limits import HeaderLimits
from taskmill.server.http.request_rates import RequestRates
from taskmill.server.http.scope_challenge import ScopeChallenge
from taskmill.server.http.token_checks import TokenRules, add_token_checks
from taskmill.server.http.transport_security import TrimmedHeaders, checks_of_sdk
from taskmill.server.protocol.sdk_private import lowlevel_of, use_authentication
from taskmill.server.sessions.endpoint import SessionEndpoint
from taskmill.server.tools.registry import ToolRegistry
from taskmill.server.tools.runtime import ServerRuntime
from taskmill.server.tools.submission import Submission

__all__ = ["add_http_api", "both_eras", "build_app"]


def build_app(
    server: MCPServer[Any],
    runtime: ServerRuntime,
    tools: ToolRegistry,
    *,
    path: str,
    host: str,
    access: Access,
    rules: TokenRules,
    json_response: bool,
    fast_paths: Submission | None,
) -> HttpApp:
    """The application; see `TaskServer.http_app`. `access`, `rules`: what requests and their tokens are checked for.

    `fast_paths`: None = there are none.

    Raises:
        UnsafeBinding: the pages of all origins may use a server without authentication.
    """
    hosts, auth = access.hosts, rules.auth
    if rules.by_settings is not None:
        use_authentication(server, auth, rules.by_settings.verifier)
    check_any_origin(access.cors_origins, has_auth=auth is not None)
    app = server.streamable_http_app(
        streamable_http_path=path, json_response=json_response, transport_security=checks_of_sdk(hosts), host=host
    )
    runtime.serves_http = True
    lowlevel = lowlevel_of(server)
    manager: Any = server.session_manager  # its ASGI application stands behind the check of tokens
    endpoint = both_eras(
        lowlevel,
        runtime,
        modern=manager.asgi_app,
        hosts=hosts,
        json_only=json_response,
        max_body=manager.max_request_body_size,
    )
    front: Callable[[ASGIApp], ASGIApp] | None = None
    if fast_paths is not None:
        fast = partial(FastPath, runtime=runtime, tools=tools, hosts=hosts, server=lowlevel, submission=fast_paths)
        if auth:
            endpoint = fast(endpoint)
        else:
            router = partial(FastPathRouter, tools=tools, path=path, has_operator=access.operators.has_tokens)
            front = partial(router, fast_path=fast)
    manager.asgi_app = ScopeChallenge(endpoint, tools, auth)
    return add_http_api(app, runtime, access, rules, mcp_path=path, front=front)


def both_eras(
    server: Server[Any],
    runtime: ServerRuntime,
    *,
    modern: ASGIApp,
    hosts: TransportSecuritySettings,
    json_only: bool,
    max_body: int,
) -> ASGIApp:
    """An MCP endpoint: `modern` serves revisions from 2026 on, sessions in the store serve the earlier ones.

    Without a store, `modern` serves all.

    `max_body`: bytes of a request of an earlier revision.
    """
    legacy = SessionEndpoint(server, runtime, hosts, json_only=json_only)
    runtime.on_close(legacy.close)
    limited = RequestBodyLimitMiddleware(legacy, max_body)
    return EraRouter(legacy=limited, modern=EmptyRefusals(modern), keeps_sessions=lambda: runtime.keeps_tasks)


def add_http_api(
    app: Starlette,
    runtime: ServerRuntime,
    access: Access,
    rules: TokenRules,
    *,
    mcp_path: str,
    front: Callable[[ASGIApp], ASGIApp] | None = None,
) -> HttpApp:
    """The application of the endpoint at `mcp_path`, with health, the API, its description and metrics.

    `front`: middleware that may answer a request before the rest sees it; its answers are counted, and a client that
    disconnects is handled around it.
    """
    made = HttpApp.of(app, mcp_path)
    redirect_without_host(made)
    requests = RequestCounter(mcp_path)
    described = [*api_routes(runtime, access), *metrics_routes(runtime, access, requests)]
    routes = [*health_routes(runtime), description_route(access), *described]
    made.router.routes.extend(routes)
    made.user_middleware.append(Middleware(RequestRates, runtime=runtime))  # the innermost: it must know the caller
    large = Middleware(LargeBodies, runtime=runtime, path=mcp_path, longest=DEFAULT_MAX_REQUEST_BODY_SIZE)
    if front is None:
        made.user_middleware.append(large)
    add_token_checks(made, runtime, rules, mcp_path=mcp_path)
    if access.operators.has_tokens:
        made.add_middleware(OperatorToken, operators=access.operators)
    made.add_middleware(CheckedHosts, hosts=access.hosts)
    made.add_middleware(TrimmedHeaders)
    if front is not None:
        made.add_middleware(front)
        made.user_middleware.insert(0, large)
    made.add_middleware(LifespanRequired, runtime=runtime, path=mcp_path)
    made.add_middleware(ClientDisconnects)
    made.add_middleware(requests.counting)
    made.add_middleware(EndpointPath, path=mcp_path)
    if access.cors_origins:
        made.add_middleware(Cors, origins=access.cors_origins)
    made.add_middleware(HeaderLimits)
    if access.is_audited:
        made.add_middleware(AuditedRequests, trail=lambda: runtime.trail, names=lambda: runtime.settings.audit_names)
    return made
