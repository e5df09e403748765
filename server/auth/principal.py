"""Who sends this request: the owner of the tasks it creates, who alone may see them."""

from typing import Any

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import principal_components
from mcp.server.context import ServerRequestContext

from taskmill.engine.principal import ANONYMOUS, LOCAL, principal_of

__all__ = ["list_owner", "owner"]

_Request = ServerRequestContext[Any, Any]


def owner(ctx: _Request | None = None) -> str:
    """Digest of the access token's issuer, client and subject; `anonymous` without one.

    `ctx`: the protocol request, None for a plain HTTP request. Over stdio the owner is the user of this machine.
    """
    if ctx is not None and ctx.request is None:
        return LOCAL
    token = get_access_token()
    if token is None:
        return ANONYMOUS
    client_id, issuer, subject = principal_components(token)
    return principal_of(issuer, client_id, subject)


def list_owner(ctx: _Request | None = None) -> str:
    """Who may list the tasks that this request creates: their owner, or an anonymous client's session.

    Empty = no one: all anonymous clients are one owner, and would see the tasks of each other.
    """
    who = owner(ctx)
    if who != ANONYMOUS:
        return who
    scope = getattr(ctx.request, "scope", {}) if ctx is not None else {}
    session_id = scope.get("taskmill.session")
    return f"session:{session_id}" if session_id else ""
