"""FastMCP's ASGI application with Taskmill's parts: sessions in the store, the HTTP API, metrics and health.

Authentication, routes and middleware of the author's stay FastMCP's. A server without authentication of its own gets
what `TASKMILL_AUTH_*` describe, as a provider of FastMCP's kind.
"""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from fastmcp import FastMCP
from fastmcp.server.auth import AccessToken, AuthProvider, TokenVerifier
from fastmcp.server.low_level import FastMCPServerMiddleware
from fastmcp.server.middleware import Middleware
from mcp.server.auth.middleware.bearer_auth import RequireAuthMiddleware
from mcp.server.auth.routes import build_resource_metadata_url
from mcp.server.auth.settings import AuthSettings
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from taskmill.adapters.fastmcp.fastmcp_private import lowlevel_of, resource_url_of
from taskmill.adapters.fastmcp.tools import NewTools
from taskmill.server.api.access import Access
from taskmill.server.app import add_http_api, both_eras
from taskmill.server.auth.authentication import Authentication, authentication_of
from taskmill.server.auth.operators import operators_of
from taskmill.server.fast_path.middleware import FastPath
from taskmill.server.handlers.pipe_listeners import PipeListeners
from taskmill.server.http.application import HttpApp
from taskmill.server.http.scope_challenge import ScopeChallenge
from taskmill.server.http.token_checks import TokenRules, rules_by_settings, token_rules
from taskmill.server.settings import ServerSettings
from taskmill.server.tools.registry import ToolRegistry
from taskmill.server.tools.runtime import ServerRuntime
from taskmill.server.tools.submission import Submission

__all__ = ["auth_settings", "authenticate_by_settings", "with_tasks"]

_MAX_BODY = 4 * 1024 * 1024
"""Bytes of a request of a revision before 2026."""
_OF_ALL_REQUESTS = ("__call__", "on_message", "on_request")
_NO_ISSUER = AnyHttpUrl("http://localhost")


class SettingsAuth(TokenVerifier):
    """The verifier that the settings describe."""

    def __init__(self, authentication: Authentication) -> None:
        super().__init__(required_scopes=list(authentication.required_scopes))
        self.authentication = authentication

    async def verify_token(self, token: str) -> AccessToken | None:
        """The token, None if it is not good.

        Raises:
            AuthenticationUnavailable: that cannot be known now.
        """
        found = await self.authentication.verifier.verify_token(token)
        return None if found is None else AccessToken.model_validate(found.model_dump())


def authenticate_by_settings(server: FastMCP[Any], settings: ServerSettings) -> None:
    """Have the server need tokens if the settings say so, and its author has not; before its application is made.

    Raises:
        SettingsError: they cannot work.
    """
    if server.auth is None or isinstance(server.auth, SettingsAuth):
        authentication = authentication_of(settings)
        server.auth = None if authentication is None else SettingsAuth(authentication)


def with_tasks(
    app: Starlette,
    server: FastMCP[Any],
    runtime: ServerRuntime,
    submission: Submission,
    *,
    path: str,
    hosts: TransportSecuritySettings,
    cors_origins: Sequence[str] = (),
    server_settings: ServerSettings,
    operator_token: str | None = None,
    json_only: bool = False,
) -> HttpApp:
    """`app`: FastMCP's, with its endpoint at `path`. `hosts`: the names that requests may be sent to.

    Raises:
        SettingsError: settings of operators or of authentication that cannot work.
    """
    runtime.serves_http = True
    lowlevel = lowlevel_of(server)
    rules = _token_rules(server, server_settings, app.routes, path)

    def endpoint(modern: ASGIApp) -> ASGIApp:
        both = both_eras(lowlevel, runtime, modern=modern, hosts=hosts, json_only=json_only, max_body=_MAX_BODY)
        fast = FastPath(
            both,
            runtime,
            ToolRegistry(),  # calls of tools always go through FastMCP
            hosts,
            lowlevel,
            submission,
            without_effect=(FastMCPServerMiddleware, NewTools, PipeListeners),
            is_open=lambda: not any(sees_all_requests(one) for one in server.middleware),
        )
        return ScopeChallenge(fast, runtime.tools, rules.auth)

    for route in app.routes:
        if isinstance(route, Route) and route.path == path:
            if isinstance(route.app, RequireAuthMiddleware):
                route.app.app = endpoint(route.app.app)  # the check of tokens stays before it
            else:
                route.app = endpoint(route.app)
    operators = operators_of(server_settings, operator_token)
    access = Access(hosts, rules.auth, operators, tuple(cors_origins), bool(server_settings.audit))
    return add_http_api(app, runtime, access, rules, mcp_path=path)


def _token_rules(server: FastMCP[Any], settings: ServerSettings, routes: Sequence[BaseRoute], path: str) -> TokenRules:
    """What holds for tokens: providers of FastMCP may name no user, so those are accepted, and that is logged."""
    auth = server.auth
    if auth is None:
        return TokenRules()
    if isinstance(auth, SettingsAuth):
        return rules_by_settings(auth.authentication)
    return token_rules(settings, auth_settings(auth, routes, path), issues_tokens=True)


def sees_all_requests(middleware: Middleware) -> bool:
    """Whether FastMCP's middleware has a part in requests that are not about tools, resources or prompts."""
    kind = type(middleware)
    return any(getattr(kind, name) is not getattr(Middleware, name) for name in _OF_ALL_REQUESTS)


def auth_settings(auth: AuthProvider, routes: Sequence[BaseRoute], path: str) -> AuthSettings:
    """What the HTTP API checks and tells about tokens, from FastMCP's provider.

    The resource is named only if the provider serves its metadata: a challenge must not lead to nothing.
    """
    resource = resource_url_of(auth, path)
    is_served = False
    if resource is not None:
        metadata = urlsplit(str(build_resource_metadata_url(resource))).path
        is_served = any(isinstance(route, Route) and route.path == metadata for route in routes)
    return AuthSettings(
        issuer_url=resource or _NO_ISSUER,
        resource_server_url=resource if is_served else None,
        required_scopes=list(auth.required_scopes or []),
    )
