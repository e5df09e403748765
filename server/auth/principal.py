"""Who sends this request: the owner of the tasks it creates, who alone may see them."""

from collections.abc import Mapping
from typing import Any

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken, principal_components
from mcp.server.context import ServerRequestContext

from taskmill.engine.principal import ANONYMOUS, LOCAL, principal_of

__all__ = ["claims_of_caller", "identity_of", "list_owner", "owner", "session_of"]

_Request = ServerRequestContext[Any, Any]


def owner(ctx: _Request | None = None) -> str:
    """Digest of the access token's issuer, client and subject; `anonymous` without one.

    `ctx`: the protocol request, None for a plain HTTP request. Without HTTP and without a token, as over stdio, the
    owner is the user of this machine.
    """
    token = get_access_token()
    if token is None:
        return LOCAL if ctx is not None and ctx.request is None else ANONYMOUS
    client_id, issuer, subject = identity_of(token)
    return principal_of(issuer, client_id, subject)


def identity_of(token: AccessToken) -> tuple[str, str | None, str | None]:
    """Client, issuer and subject of a token.

    Verifiers may leave `subject` empty and name the user in the claim `sub` only; then the users of one client would
    be one owner, and see each other's tasks.
    """
    client_id, issuer, subject = principal_components(token)
    if subject is None and (claimed := (token.claims or {}).get("sub")) is not None:
        subject = str(claimed)
    return client_id, issuer, subject


def claims_of_caller() -> dict[str, Any]:
    """The claims of the token of this request, with those that a verifier may give another place; none without one."""
    token = get_access_token()
    if token is None:
        return {}
    client_id, issuer, subject = identity_of(token)
    known = {"client_id": client_id, "iss": issuer, "sub": subject, "scope": token.scopes}
    return {**(token.claims or {}), **{name: value for name, value in known.items() if value is not None}}


def list_owner(ctx: _Request | None = None) -> str:
    """Who may list the tasks that this request creates: their owner, or an anonymous client's session.

    Empty = no one: all anonymous clients are one owner, and would see the tasks of each other.
    """
    who = owner(ctx)
    if who != ANONYMOUS:
        return who
    session_id = session_of(ctx)
    return f"session:{session_id}" if session_id else ""


def session_of(ctx: _Request | None) -> str | None:
    """The id of the session that a request was sent in; None where there is none, as over stdio or from 2026 on."""
    scope: Mapping[str, Any] = getattr(ctx.request, "scope", {}) if ctx is not None else {}
    return scope.get("taskmill.session")
