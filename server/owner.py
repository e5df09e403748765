"""Who sends this request: the owner of the tasks it creates, and the only one who may see them."""

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import principal_components

from windlass.engine.principal import ANONYMOUS, principal_of

__all__ = ["lister", "owner"]


def owner() -> str:
    """Digest of the access token's issuer, client and subject; `anonymous` without one."""
    token = get_access_token()
    if token is None:
        return ANONYMOUS
    client_id, issuer, subject = principal_components(token)
    return principal_of(issuer, client_id, subject)


def lister() -> str:
    """Who may list the tasks that this request creates: its owner; nobody (empty) when that is everybody."""
    who = owner()
    return "" if who == ANONYMOUS else who
