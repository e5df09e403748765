"""An authorization server on loopback, made for tests: keys, a login that asks nothing, and signed tokens."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from fastmcp.server.auth.providers.jwt import RSAKeyPair
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse
from starlette.routing import Route

__all__ = ["Issuer"]


class Issuer:
    """Its `app` is served on any port; then `url` is set."""

    def __init__(self) -> None:
        self._keys = RSAKeyPair.generate()
        self.url = ""
        self.user = "ann"
        """Whoever logs in."""
        self.given: list[str] = []
        """The tokens that were given for codes."""
        self.app = Starlette(
            routes=[
                Route("/jwks.json", self._jwks),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
            ]
        )

    def token(self, user: str, *scopes: str, claims: Mapping[str, Any] | None = None) -> str:
        """A signed token for the audience `reports`."""
        return self._keys.create_token(
            subject=user,
            issuer=self.url,
            audience="reports",
            scopes=list(scopes),
            additional_claims={"client_id": "one-client", **(claims or {})},
            kid="one",
        )

    async def _jwks(self, _request: Request) -> JSONResponse:
        key = RSAKey.import_key(self._keys.public_key, {"kid": "one", "alg": "RS256", "use": "sig"})
        return JSONResponse({"keys": [key.as_dict(private=False)]})

    async def _authorize(self, request: Request) -> RedirectResponse:
        query = request.query_params
        return RedirectResponse(f"{query['redirect_uri']}?{urlencode({'code': 'one', 'state': query['state']})}")

    async def _token(self, _request: Request) -> JSONResponse:
        self.given.append(self.token(self.user, "write"))
        return JSONResponse({"access_token": self.given[-1], "token_type": "Bearer", "expires_in": 3600})
