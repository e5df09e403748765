"""Where an authorization server has its keys, as its metadata says (RFC 8414, and OpenID Connect Discovery)."""

from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import httpx2

from taskmill.engine.errors import AuthenticationUnavailable
from taskmill.server.auth.issuer_requests import NotThere, read_json

__all__ = ["find_jwks_url"]

_OAUTH = "/.well-known/oauth-authorization-server"
_OPENID = "/.well-known/openid-configuration"


async def find_jwks_url(http: httpx2.AsyncClient, issuer: str) -> str:
    """The address of the issuer's keys.

    Raises:
        AuthenticationUnavailable: its metadata cannot be read, or is of another issuer (RFC 8414, 3.3).
    """
    for url in _addresses(issuer):
        try:
            metadata, _ = await read_json(http, http.build_request("GET", url))
        except NotThere:
            continue
        if metadata.get("issuer") != issuer:
            raise AuthenticationUnavailable(
                f"{url} is the metadata of {ascii(metadata.get('issuer'))[:200]}: write TASKMILL_AUTH_ISSUER "
                "exactly so."
            )
        jwks_url = metadata.get("jwks_uri")
        if not isinstance(jwks_url, str) or urlsplit(jwks_url).scheme not in ("https", urlsplit(issuer).scheme):
            raise AuthenticationUnavailable(f"{url} names no jwks_uri that can be used: set TASKMILL_AUTH_JWKS_URL.")
        return jwks_url
    raise AuthenticationUnavailable(f"{issuer} has no metadata at any of its addresses: set TASKMILL_AUTH_JWKS_URL.")


def _addresses(issuer: str) -> Iterator[str]:
    """Before the issuer's path (RFC 8414, 3.1), and behind it, as OpenID Connect has it."""
    scheme, host, path, _, _ = urlsplit(issuer)
    path = path.rstrip("/")
    yield urlunsplit((scheme, host, _OAUTH + path, "", ""))
    yield urlunsplit((scheme, host, path + _OPENID, "", ""))
    if path:
        yield urlunsplit((scheme, host, _OPENID + path, "", ""))
