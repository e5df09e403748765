"""Puts together what stands around the check of tokens, for every kind of server: the same for an author's verifier,
for FastMCP's providers, and for the settings.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend
from mcp.server.auth.settings import AuthSettings
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import Scope

from taskmill.server.auth.authentication import Authentication, authentication_of
from taskmill.server.auth.checked_verifier import CheckedVerifier, ClientTokens
from taskmill.server.auth.settings import AuthenticationSettings
from taskmill.server.http.auth_gate import AuthGate
from taskmill.server.http.resource_metadata import WELL_KNOWN, OwnMetadata, WithToolScopes
from taskmill.server.http.scope_challenge import metadata_url_of
from taskmill.server.http.token_lifetime import TokenLifetime
from taskmill.server.tool_host import TaskTools
from taskmill.server.tools.runtime import ServerRuntime

__all__ = ["TokenRules", "add_token_checks", "rules_by_settings", "token_rules"]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What holds for the tokens of a server's users."""

    auth: AuthSettings | None = None
    """What the SDK checks; None: this server has no authentication, and every caller is anonymous."""
    by_settings: Authentication | None = None
    """None: the author's own code verifies the tokens, if anything does."""
    client_tokens: ClientTokens = ClientTokens.REFUSE


def token_rules(
    settings: AuthenticationSettings, author: AuthSettings | None, *, issues_tokens: bool = False
) -> TokenRules:
    """What holds for a server with these settings. The author's own verifier wins over theirs.

    `author`: what the author's code checks, None = nothing; `issues_tokens`: the server is its own authorization
    server, whose clients are its own.

    Raises:
        SettingsError: the settings cannot work.
    """
    allowed = settings.auth_allow_client_tokens
    client_tokens = ClientTokens.ACCEPT if allowed else ClientTokens.REFUSE
    if author is not None:
        if settings.auth_issuer is not None:
            log.warning("auth.settings_unused", hint="the server's own code verifies tokens, so TASKMILL_AUTH_* do not")
        is_open = issues_tokens and allowed is None
        return TokenRules(author, None, ClientTokens.WARN if is_open else client_tokens)
    by_settings = authentication_of(settings)
    return TokenRules() if by_settings is None else rules_by_settings(by_settings, client_tokens)


def rules_by_settings(by_settings: Authentication, client_tokens: ClientTokens = ClientTokens.ACCEPT) -> TokenRules:
    """What holds where the settings describe the verifier, which itself refuses what must be refused."""
    auth = AuthSettings(
        issuer_url=AnyHttpUrl(by_settings.issuer),
        resource_server_url=None,  # `OwnMetadata` names it, which knows under which name a client has this server
        required_scopes=list(by_settings.required_scopes),
    )
    return TokenRules(auth, by_settings, client_tokens)


def add_token_checks(app: Starlette, runtime: ServerRuntime, rules: TokenRules, *, mcp_path: str) -> None:
    """Complete an application that has the SDK's or FastMCP's check of tokens; one without is left as it is."""
    auth = rules.auth
    if auth is None:
        return
    for middleware in app.user_middleware:
        backend = middleware.kwargs.get("backend")
        if isinstance(backend, BearerAuthBackend) and not isinstance(backend.token_verifier, CheckedVerifier):
            backend.token_verifier = CheckedVerifier(backend.token_verifier, rules.client_tokens)
    app.user_middleware.append(Middleware(TokenLifetime))

    def offered() -> Sequence[str]:
        return scopes_of_tools(runtime.tools)

    static = metadata_url_of(auth)
    if rules.by_settings is not None:
        runtime.on_close(rules.by_settings.close)
        app.state.check_issuer = rules.by_settings.check
        own = OwnMetadata(rules.by_settings, mcp_path, offered)
        app.router.routes.insert(0, own.route())
        url = own.url
    else:
        for route in app.router.routes:
            if isinstance(route, Route) and route.path.startswith(WELL_KNOWN):
                route.app = WithToolScopes(route.app, offered)

        def url(scope: Scope) -> str:
            return str(static) if static else ""

    app.add_middleware(AuthGate, required=auth.required_scopes or (), offered=offered, metadata_url=url)


def scopes_of_tools(tools: TaskTools) -> list[str]:
    """The scopes that task tools ask for, each once."""
    return list(dict.fromkeys(scope for policy in tools.policies().values() for scope in policy.scopes))
