"""An authorization server for tests: real HTTP on this machine, with keys that it changes and outages that it has."""

import asyncio
import json
import time
from base64 import b64decode
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import parse_qs, unquote_plus

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support.replica import serving

__all__ = ["AUDIENCE", "Issuer", "issuer", "running_issuer"]

AUDIENCE = "reports"


class Issuer:
    """Signs tokens, publishes its keys, and answers questions about tokens."""

    def __init__(self) -> None:
        self.url = ""
        self.number = 0
        self.private: Any = None
        self.rotate()
        self.is_away = False
        self.requests: Counter[str] = Counter()
        """How often each path was asked for."""
        self.active: dict[str, dict[str, Any]] = {}
        """What is said of tokens that only the issuer can read."""
        self.client = ("taskmill", "secret: 100%+")
        """Who may ask: id and secret."""
        self.secret_in_body = False
        """Where these have to be."""
        self.document: dict[str, Any] | None = None
        """Published in place of the keys."""

    def rotate(self) -> None:
        """Have a new key, and publish only that."""
        self.number += 1
        self.private = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @property
    def key_id(self) -> str:
        return f"key-{self.number}"

    @property
    def pem(self) -> str:
        """The public key."""
        return str(self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())

    def claims(self, user: str = "ada", **more: Any) -> dict[str, Any]:
        """Claims of a good token; None leaves one out."""
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": user,
            "client_id": "app",
            "iat": now,
            "exp": now + 600,
            **more,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, user: str = "ada", *, header: dict[str, Any] | None = None, key: Any = None, **more: Any) -> str:
        """A token of this issuer, of the key that it has now."""
        return self.sign(self.claims(user, **more), header=header, key=key)

    def sign(
        self, claims: dict[str, Any], *, header: dict[str, Any] | None = None, key: Any = None, alg: str = "RS256"
    ) -> str:
        return jwt.encode(
            claims, key or self.private, alg, headers={"kid": self.key_id, "typ": "at+jwt", **(header or {})}
        )

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/oauth-authorization-server", self._metadata),
                Route("/keys", self._keys),
                Route("/introspect", self._introspect, methods=["POST"]),
            ]
        )

    @contextmanager
    def away(self) -> Iterator[None]:
        """Answer nothing but 503."""
        self.is_away = True
        try:
            yield
        finally:
            self.is_away = False

    def _out(self, request: Request) -> Response | None:
        self.requests[request.url.path] += 1
        return Response(status_code=503) if self.is_away else None

    async def _metadata(self, request: Request) -> Response:
        return self._out(request) or JSONResponse({"issuer": self.url, "jwks_uri": f"{self.url}/keys"})

    async def _keys(self, request: Request) -> Response:
        key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.private.public_key()))
        other = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key()))
        keys = [{**key, "kid": self.key_id, "use": "sig", "alg": "RS256"}, {**other, "kid": "enc", "use": "enc"}]
        return self._out(request) or JSONResponse({"keys": keys} if self.document is None else self.document)

    async def _introspect(self, request: Request) -> Response:
        if (refused := self._out(request)) is not None:
            return refused
        form = parse_qs((await request.body()).decode())
        shown = [form.get(name, [""])[0] for name in ("client_id", "client_secret")]
        kind, _, both = request.headers.get("authorization", "").partition(" ")
        if kind == "Basic":
            shown = [unquote_plus(part) for part in b64decode(both).decode().split(":")]
        if (bool(kind), *shown) != (not self.secret_in_body, *self.client):
            return Response(status_code=401)
        return JSONResponse(self.active.get(form["token"][0], {"active": False}))


@asynccontextmanager
async def running_issuer() -> AsyncIterator[Issuer]:
    """An issuer on a free port."""
    made = await asyncio.to_thread(Issuer)
    async with serving(made.app()) as url:
        made.url = url
        yield made


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    """An issuer for a test, in its event loop."""
    async with running_issuer() as running:
        yield running
