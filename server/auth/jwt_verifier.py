"""Access tokens that are JWTs, checked in this process with the issuer's public keys (RFC 7519, 8725, 9068)."""

from collections.abc import Mapping, Sequence
from typing import Any

import jwt
from mcp.server.auth.provider import AccessToken

from taskmill.server.auth.claims import access_token
from taskmill.server.auth.issuer_keys import KeySource
from taskmill.server.auth.refusals import BadToken, refused

__all__ = ["JwtVerifier"]

_LONGEST = 16 * 1024
"""Characters of a token. One with many groups has 4 kB."""
_LATEST = 253402300800
"""The year 10000: no token lives longer, and every clock can count so far."""
_TYPES = ("jwt", "at+jwt", "application/jwt", "application/at+jwt")
_FAULTS: dict[type[jwt.PyJWTError], str] = {
    jwt.ExpiredSignatureError: "The access token has expired.",
    jwt.ImmatureSignatureError: "The access token is not valid yet.",
    jwt.InvalidIssuerError: "The access token is of another issuer.",
    jwt.InvalidAudienceError: "The access token is not for this server: its aud names another one.",
    jwt.InvalidSignatureError: "The access token's signature is not its issuer's.",
}


class JwtVerifier:
    """A verifier for the SDK. It accepts tokens of one issuer, for one of the given audiences."""

    def __init__(
        self,
        keys: KeySource,
        *,
        issuer: str,
        audience: Sequence[str],
        algorithms: Sequence[str],
        leeway: float,
        allow_client_tokens: bool = False,
    ) -> None:
        """`leeway`: seconds by which clocks may differ."""
        self._keys = keys
        self._issuer = issuer
        self._audience = list(audience)
        self._algorithms = frozenset(algorithms)
        self._leeway = leeway
        self._allow_client_tokens = allow_client_tokens

    async def verify_token(self, token: str) -> AccessToken | None:
        """The token, None if it is not good.

        Raises:
            AuthenticationUnavailable: the issuer's keys cannot be had now.
        """
        try:
            return await self._verified(token)
        except BadToken as bad:
            refused(str(bad))
            return None

    async def _verified(self, token: str) -> AccessToken:
        header = _header(token)
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in self._algorithms:
            raise BadToken("The access token is signed by an algorithm that this server does not accept.")
        key = await self._keys.find(key_id, algorithm)
        if key is None:
            raise BadToken("The access token is signed with a key that its issuer does not have.")
        claims = self._claims(token, key, algorithm)
        # The SDK looks at it again, and knows no leeway.
        expires_at = min(int(claims["exp"]) + int(self._leeway), _LATEST)
        return access_token(token, claims, expires_at=expires_at, allow_client=self._allow_client_tokens)

    def _claims(self, token: str, key: Any, algorithm: str) -> Mapping[str, Any]:
        """The claims of a token with a good signature, in its time, of this issuer, for this server."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=self._leeway,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.MissingRequiredClaimError as exc:
            raise BadToken(f"The access token has no {exc.claim}.") from exc
        except jwt.PyJWTError as exc:
            words = next((text for kind, text in _FAULTS.items() if isinstance(exc, kind)), None)
            raise BadToken(words or "The access token cannot be read.") from exc
        except (ValueError, TypeError, OverflowError, RecursionError) as exc:
            raise BadToken("The access token cannot be read.") from exc
        return claims


def _header(token: str) -> Mapping[str, Any]:
    """The header of a token; addresses and keys in it are never used, since its sender wrote them.

    Raises:
        BadToken: it has none, or one of another kind of token.
    """
    if len(token) > _LONGEST:
        raise BadToken(f"The access token has more than {_LONGEST} characters.")
    try:
        header: dict[str, Any] = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as exc:
        raise BadToken("The access token is no signed JWT.") from exc
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise BadToken("This is no access token: its header's typ says so.")
    if "crit" in header:
        raise BadToken("The access token's header demands what this server does not know (crit).")
    if not isinstance(header.get("alg"), str) or not isinstance(header.get("kid", ""), str):
        raise BadToken("The access token's header is malformed.")
    return header
