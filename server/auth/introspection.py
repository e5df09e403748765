"""Access tokens that only their issuer can read: it is asked whether they are good (RFC 7662)."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote_plus

import httpx2
import structlog
from mcp.server.auth.provider import AccessToken

from taskmill.engine.errors import AuthenticationUnavailable
from taskmill.server.auth.claims import access_token
from taskmill.server.auth.issuer_requests import read_json, timeout
from taskmill.server.auth.refusals import BadToken, refused

__all__ = ["Introspection"]

log = structlog.get_logger()

_KEPT_FOR = 15.0
"""Seconds that an answer counts: a token that was revoked is good for so long."""
_MOST_KEPT = 10_000
_LONGEST = 16 * 1024


class Introspection:
    """A verifier for the SDK."""

    def __init__(
        self,
        url: str,
        client_id: str,
        client_secret: str,
        *,
        issuer: str,
        audience: Sequence[str],
        leeway: float,
        allow_client_tokens: bool = False,
        secret_in_body: bool = False,
        kept_for: float = _KEPT_FOR,
    ) -> None:
        """`audience`: empty = the issuer's word is enough, which knows for whom it answers.

        `secret_in_body`: the issuer takes the client's id and secret there, and not in a header (RFC 6749, 2.3.1).
        `kept_for`: seconds that an answer counts.
        """
        self._url = url
        # The header has both form-encoded: a colon, a percent sign or a plus in them would be read as something else.
        self._header = None if secret_in_body else httpx2.BasicAuth(quote_plus(client_id), quote_plus(client_secret))
        self._form = {"client_id": client_id, "client_secret": client_secret} if secret_in_body else {}
        self._issuer = issuer
        self._audience = frozenset(audience)
        self._leeway = leeway
        self._allow_client_tokens = allow_client_tokens
        self._kept_for = kept_for
        self._answers: OrderedDict[bytes, tuple[float, dict[str, Any]]] = OrderedDict()
        """By digest of the token, the time until it counts, and the answer."""
        self._asking: dict[bytes, asyncio.Task[dict[str, Any]]] = {}
        self._http: httpx2.AsyncClient | None = None

    async def verify_token(self, token: str) -> AccessToken | None:
        """The token, None if it is not good.

        Raises:
            AuthenticationUnavailable: the issuer does not answer.
        """
        try:
            if len(token) > _LONGEST:
                raise BadToken(f"The access token has more than {_LONGEST} characters.")
            return self._checked(token, await self._answer(token))
        except BadToken as bad:
            refused(str(bad))
            return None

    async def check(self) -> None:
        """Ask about a token that there is not.

        Raises:
            AuthenticationUnavailable: no answer; the message says why, to an operator.
        """
        try:
            await self._ask("taskmill-doctor")
        except AuthenticationUnavailable as exc:
            raise AuthenticationUnavailable(str(exc.__cause__ or exc)) from exc
        finally:
            await self.close()

    async def close(self) -> None:
        """Close the connections to the issuer."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def _answer(self, token: str) -> dict[str, Any]:
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        until, answer = self._answers.get(digest, (0.0, {}))
        if time.monotonic() < until:
            return answer
        asking = self._asking.get(digest)
        if asking is None:
            asking = self._asking[digest] = asyncio.create_task(self._ask(token), name="taskmill.introspection")
            asking.add_done_callback(lambda done: self._end(digest, done))
        answer = await asyncio.shield(asking)
        self._answers[digest] = time.monotonic() + self._kept_for, answer
        self._answers.move_to_end(digest)
        if len(self._answers) > _MOST_KEPT:
            self._answers.popitem(last=False)
        return answer

    def _end(self, digest: bytes, done: asyncio.Task[dict[str, Any]]) -> None:
        self._asking.pop(digest, None)
        if not done.cancelled():
            done.exception()  # those who wait for it have it; there may be none left

    async def _ask(self, token: str) -> dict[str, Any]:
        if self._http is None:
            self._http = httpx2.AsyncClient(timeout=timeout(), auth=self._header)
        form = {"token": token, "token_type_hint": "access_token", **self._form}
        headers = {"accept": "application/json"}
        try:
            async with asyncio.timeout(10):
                request = self._http.build_request("POST", self._url, data=form, headers=headers)
                return (await read_json(self._http, request))[0]
        except (AuthenticationUnavailable, TimeoutError) as exc:
            log.warning("auth.introspection_unavailable", why=str(exc) or "too slow")
            raise AuthenticationUnavailable from exc

    def _checked(self, token: str, answer: Mapping[str, Any]) -> AccessToken:
        if answer.get("active") is not True:
            raise BadToken("The access token is not active: it has expired, was revoked, or is of another issuer.")
        if str(answer.get("token_type", "bearer")).lower() not in ("bearer", "access_token"):
            raise BadToken("This is no access token: its issuer says so.")
        if answer.get("iss", self._issuer) != self._issuer:
            raise BadToken("The access token is of another issuer.")
        aud = answer.get("aud")
        listed = aud if isinstance(aud, list) else [aud]
        named = {one for one in listed if isinstance(one, str)}
        if self._audience and not named & self._audience:
            raise BadToken("The access token is not for this server: its aud names another one.")
        now = time.time()
        expires = _seconds(answer, "exp")
        if expires is not None and expires + self._leeway <= now:
            raise BadToken("The access token has expired.")
        if (begins := _seconds(answer, "nbf")) is not None and begins - self._leeway > now:
            raise BadToken("The access token is not valid yet.")
        expires_at = None if expires is None else int(expires + self._leeway)
        claims = {**answer, "iss": self._issuer}
        return access_token(token, claims, expires_at=expires_at, allow_client=self._allow_client_tokens)


def _seconds(answer: Mapping[str, Any], name: str) -> float | None:
    value = answer.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise BadToken(f"The access token's {name} is no time.")
    return float(value)
