"""What the claims of an access token must say, in whatever way they were verified, and the token that they make."""

from collections.abc import Mapping
from typing import Any

from mcp.server.auth.provider import AccessToken

from taskmill.server.auth.refusals import BadToken

__all__ = ["NO_SUBJECT", "access_token"]

NO_SUBJECT = (
    "The access token names no user (sub). It would make one caller of all who use its client; the operator of this "
    "server can allow that with TASKMILL_AUTH_ALLOW_CLIENT_TOKENS."
)
_OTHER_KINDS = {"typ": ("id", "refresh", "offline", "logout"), "token_use": ("id", "refresh")}
"""Claims by which issuers mark their other tokens, and what they then say."""
_ONLY_IN_OTHER_KINDS = ("events", "at_hash", "c_hash")
"""Claims of logout tokens and other reports of events (RFC 8417), and of ID tokens, which may have no `typ`."""


def access_token(token: str, claims: Mapping[str, Any], *, expires_at: int | None, allow_client: bool) -> AccessToken:
    """The token of verified claims. `expires_at`: seconds since 1970; `allow_client`: it need not name a user.

    Raises:
        BadToken: it names no user, is no access token, or is of use only with a key that its client has.
    """
    for name, kinds in _OTHER_KINDS.items():
        if str(claims.get(name, "")).lower() in kinds:
            raise BadToken(f"This is no access token: its claim {name} says so.")
    for name in _ONLY_IN_OTHER_KINDS:
        if name in claims:
            raise BadToken(f"This is no access token: it has the claim {name}.")
    if "cnf" in claims:
        raise BadToken("The access token is bound to a key of its client, which this server cannot check.")
    subject = claims.get("sub")
    if subject is not None and not isinstance(subject, str):
        raise BadToken("The access token's sub is no text.")
    if not subject and not allow_client:
        raise BadToken(NO_SUBJECT)
    return AccessToken(
        token=token,
        client_id=_client(claims),
        scopes=_scopes(claims),
        expires_at=expires_at,
        subject=subject or None,
        claims=dict(claims),
    )


def _client(claims: Mapping[str, Any]) -> str:
    named = (claims.get(name) for name in ("client_id", "azp", "appid", "cid"))
    return next((client for client in named if isinstance(client, str)), "")


def _scopes(claims: Mapping[str, Any]) -> list[str]:
    """`scope` is a text with blanks (RFC 9068); some issuers have a list, or the name `scp`."""
    given = claims.get("scope", claims.get("scp"))
    if isinstance(given, str):
        return given.split()
    return [scope for scope in given if isinstance(scope, str)] if isinstance(given, list) else []
