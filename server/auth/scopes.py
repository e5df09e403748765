"""What a task stores about its caller: scopes, and the claims that the author asked to see. Never the token.

Also the one check of a tool's scopes, made when it is called, and again when it runs by what was stored.
"""

from collections.abc import Collection, Mapping
from typing import Any

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken

from taskmill.engine.errors import ScopeMissing
from taskmill.engine.policy import TaskConfig
from taskmill.server.auth.principal import identity_of

__all__ = ["caller_record", "claims_of", "missing_scopes", "require_scopes"]


def caller_record(*, over_http: bool, visible: Collection[str]) -> dict[str, Any]:
    """The caller of this request, as the task stores it. `visible`: names of the claims to store."""
    token = get_access_token()
    if token is None:
        # On stdio and in memory the caller is the one who started the server: no one could check a token.
        return {"scopes": []} if over_http else {"scopes": [], "trusted": True}
    return {"scopes": list(token.scopes), "claims": claims_of(token, visible)}


def claims_of(token: AccessToken | None, visible: Collection[str]) -> dict[str, Any]:
    """The claims of a token that an author may see: those the verifier gave, and `client_id`, `iss` and `sub`."""
    if token is None or not visible:
        return {}
    client_id, issuer, subject = identity_of(token)
    named = {"client_id": client_id, "iss": issuer, "sub": subject, **(token.claims or {})}
    return {name: named[name] for name in visible if named.get(name) is not None}


def missing_scopes(policy: TaskConfig, caller: Mapping[str, Any]) -> list[str]:
    """The scopes of a tool that the caller was not granted."""
    if not policy.scopes or caller.get("trusted") is True:
        return []
    granted = caller.get("scopes", ())
    return [scope for scope in policy.scopes if scope not in granted]


def require_scopes(tool: str, policy: TaskConfig, caller: Mapping[str, Any]) -> None:
    """Return if the caller may run the tool.

    Raises:
        ScopeMissing: it was not granted a scope that the tool needs.
    """
    if missing := missing_scopes(policy, caller):
        raise ScopeMissing(
            f"{tool} needs the scope {' '.join(missing)}, which the access token does not have.",
            scopes=list(policy.scopes),
            tool=tool,
        )
