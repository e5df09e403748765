"""The public keys of an issuer: fetched once, kept, renewed before they are old, and kept on while it is away.

Which of them signed a token is asked here; the signature itself is checked in `jwt_verifier.py`.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import httpx2
import jwt
import structlog

from taskmill.engine.errors import AuthenticationUnavailable, TaskmillError
from taskmill.server.auth.algorithms import library_name
from taskmill.server.auth.issuer_metadata import find_jwks_url
from taskmill.server.auth.issuer_requests import read_json, timeout

__all__ = ["IssuerKeys", "KeySource", "PublishedKeys", "StaticKey"]

log = structlog.get_logger()

_RENEW_AFTER = 300.0
"""Seconds after which keys are fetched again, beside the requests that use them."""
_COOL_DOWN = 5.0
"""Seconds between two fetches: made-up key ids must not make this server a load for its issuer."""
_MOST_KEYS = 100
_SMALLEST_RSA = 2048
_KINDS = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519", "Ed25519": "Ed25519"}


class KeySource(Protocol):
    """Where the key of a token is found."""

    async def find(self, key_id: str | None, algorithm: str) -> Any | None:
        """The key, None = there is none of that id for that algorithm.

        Raises:
            AuthenticationUnavailable: that cannot be known now.
        """

    async def check(self) -> None:
        """Return if there are keys.

        Raises:
            AuthenticationUnavailable: there are none now; the message says why, to an operator.
        """


class StaticKey:
    """The one key that an operator has set."""

    def __init__(self, key: Any) -> None:
        self._key = key

    async def find(self, key_id: str | None, algorithm: str) -> Any | None:
        """The key, whatever its id: none was set."""
        return self._key

    async def check(self) -> None:
        """There always is one."""


@dataclass(frozen=True, slots=True)
class PublishedKeys:
    """A set of keys (RFC 7517), reduced to those that can check signatures."""

    keys: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "PublishedKeys":
        """The keys of a JWKS document.

        Raises:
            AuthenticationUnavailable: it is none, or has too many keys.
        """
        keys = document.get("keys")
        if not isinstance(keys, list) or len(keys) > _MOST_KEYS:
            raise AuthenticationUnavailable(f"The issuer's keys are no list of at most {_MOST_KEYS} keys.")
        return cls(tuple(key for key in keys if isinstance(key, dict) and _can_verify(key)))

    def find(self, key_id: str | None, algorithm: str) -> Any | None:
        """The key of a token; without an id the only one that fits."""
        found = [key for key in self.keys if _fits(key, algorithm) and (key_id is None or key.get("kid") == key_id)]
        if not found or (key_id is None and len(found) > 1):
            return None
        try:
            key = jwt.PyJWK(dict(found[0]), library_name(algorithm)).key
        except (jwt.PyJWTError, ValueError, TypeError):
            return None
        return None if getattr(key, "key_size", _SMALLEST_RSA) < _SMALLEST_RSA and found[0]["kty"] == "RSA" else key


class IssuerKeys:
    """The keys that an issuer publishes."""

    def __init__(
        self,
        issuer: str,
        jwks_url: str | None,
        *,
        renew_after: float = _RENEW_AFTER,
        cool_down: float = _COOL_DOWN,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`jwks_url`: None = as the issuer's metadata says."""
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._renew_after = renew_after
        self._cool_down = cool_down
        self._clock = clock
        self._keys: PublishedKeys | None = None
        self._fetched_at = self._tried_at = float("-inf")
        self._failure: TaskmillError | None = None
        """Why the last fetch failed; None = it did not."""
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, key_id: str | None, algorithm: str) -> Any | None:
        """See `KeySource`. An unknown id has the keys fetched once more, since the issuer may have a new one."""
        if self._keys is None:
            await self._fetch_unless_cooling()
        elif self._clock() - self._fetched_at > self._renew_after:
            self._begin_unless_cooling()
        key = self._found(key_id, algorithm)
        if key is None:
            await self._fetch_unless_cooling()
            key = self._found(key_id, algorithm)
        if key is None and self._failure is not None:
            wait = max(1, round(self._tried_at + self._cool_down - self._clock()))
            raise AuthenticationUnavailable(retry_after=wait) from self._failure
        return key

    async def check(self) -> None:
        """See `KeySource`."""
        await self._fetch_unless_cooling()
        if self._failure is not None:
            raise self._failure
        if self._keys is None or not self._keys.keys:
            raise AuthenticationUnavailable(f"{self._issuer} publishes no key that can check signatures.")

    def _found(self, key_id: str | None, algorithm: str) -> Any | None:
        return None if self._keys is None else self._keys.find(key_id, algorithm)

    async def _fetch_unless_cooling(self) -> None:
        if (fetching := self._begin_unless_cooling()) is not None:
            await asyncio.shield(fetching)  # one request that is given up must not end the fetch of all

    def _begin_unless_cooling(self) -> asyncio.Task[None] | None:
        """The fetch that runs now, if any: one at a time, and none too soon after the last."""
        if self._fetching is not None and not self._fetching.done():
            return self._fetching
        if self._clock() - self._tried_at < self._cool_down:
            return None
        self._tried_at = self._clock()
        self._fetching = asyncio.create_task(self._fetch(), name="taskmill.issuer_keys")
        return self._fetching

    async def _fetch(self) -> None:
        try:
            async with httpx2.AsyncClient(timeout=timeout()) as http, asyncio.timeout(10):
                url = self._jwks_url or await find_jwks_url(http, self._issuer)
                document, _ = await read_json(http, http.build_request("GET", url))
            keys = PublishedKeys.of(document)
        except (TaskmillError, TimeoutError) as exc:
            failure = exc if isinstance(exc, TaskmillError) else AuthenticationUnavailable("The issuer is too slow.")
            self._failure = failure
            log.warning("auth.keys_unavailable", issuer=self._issuer, why=str(failure), has_keys=self._keys is not None)
        else:
            self._keys, self._failure, self._fetched_at = keys, None, self._clock()
            log.debug("auth.keys_fetched", issuer=self._issuer, keys=len(keys.keys))


def _can_verify(key: Mapping[str, Any]) -> bool:
    operations = key.get("key_ops")
    return (
        key.get("kty") in ("RSA", "EC", "OKP")
        and key.get("use") in (None, "sig")
        and (operations is None or (isinstance(operations, list) and "verify" in operations))
    )


def _fits(key: Mapping[str, Any], algorithm: str) -> bool:
    """Whether a key may check signatures of that algorithm (RFC 8725, 3.1)."""
    named = key.get("alg")
    if named is not None and library_name(named) != library_name(algorithm):
        return False
    if key.get("kty") != _KINDS[algorithm[:2]]:
        return False
    return key.get("kty") == "RSA" or key.get("crv") == _CURVES[algorithm]
