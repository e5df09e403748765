"""Settings of authentication and of operators, as `TASKMILL_*` in the environment; what they make is elsewhere.

A setting that stands alone is checked here; what several say together is checked in `authentication.py`.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from taskmill.server.auth.algorithms import ASYMMETRIC
from taskmill.store.settings import StoreSettings

__all__ = ["AuthenticationSettings"]

_Words = Annotated[tuple[str, ...], NoDecode]


class AuthenticationSettings(StoreSettings):
    """Who issues the access tokens of this server's users, and which tokens operators have."""

    auth_issuer: str | None = Field(None, pattern=r"^https?://[^\s?#]+$")
    """Authorization server whose tokens are accepted, exactly as they name it in `iss`; None = no authentication."""
    auth_audience: _Words = ()
    """What tokens must name in `aud`, separated by commas: one of these is enough."""
    auth_jwks_url: str | None = Field(None, pattern=r"^https?://[^\s#]+$")
    """Where the issuer publishes its keys; None = as its metadata says."""
    auth_public_key: str | None = None
    """The issuer's public key in PEM, or a file with it: then nothing is fetched."""
    auth_algorithms: _Words = ("RS256", "ES256")
    """Signatures that are accepted, separated by commas; only those of public keys."""
    auth_required_scopes: _Words = ()
    """Scopes that every token must have, separated by commas."""
    auth_leeway: float = Field(30.0, ge=0, le=600)
    """Seconds by which the issuer's clock and this one may differ."""
    auth_allow_client_tokens: bool | None = None
    """Accept tokens that name no user: all who use that client are then one caller."""
    auth_resource: str | None = Field(None, pattern=r"^https?://[^\s?#]+$")
    """URL of the MCP endpoint as clients have it; None = as the request says."""
    auth_introspection_url: str | None = Field(None, pattern=r"^https?://[^\s#]+$")
    """Where the issuer tells whether a token is good (RFC 7662), for tokens that cannot be checked here."""
    auth_introspection_client_id: str | None = None
    """Who asks there."""
    auth_introspection_client_secret: str | None = Field(None, repr=False)
    """The secret of who asks there."""
    auth_introspection_client_auth: Literal["client_secret_basic", "client_secret_post"] = "client_secret_basic"
    """How it is shown there: in a header, or in the body (RFC 6749, section 2.3.1)."""
    api_operator_token: str | None = Field(None, min_length=16, repr=False)
    """Bearer token of an operator, who may see and end every task over the HTTP API; None = there is none."""
    operator_tokens: str = Field("", repr=False)
    """Bearer tokens of further operators, `roles:token` each, separated by blanks; roles: read, act, metrics."""
    operator_tokens_file: Path | None = None
    """A file of such lines, which is read again when it changes."""
    operator_scopes: str = ""
    """Scopes of the issuer that make their user an operator, `roles:scope` each, separated by blanks."""

    @field_validator("auth_audience", "auth_algorithms", "auth_required_scopes", mode="before")
    @classmethod
    def _split_words(cls, value: object) -> object:
        return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value

    @field_validator("auth_algorithms")
    @classmethod
    def _check_algorithms(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not set(value) <= set(ASYMMETRIC):
            raise ValueError(f"write some of {', '.join(ASYMMETRIC)}; none and those of shared secrets are not safe")
        return value
