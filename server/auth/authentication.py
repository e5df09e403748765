"""Authentication by settings: the verifier that `TASKMILL_AUTH_*` describe, and what clients learn of it."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from mcp.server.auth.provider import TokenVerifier

from taskmill.engine.errors import SettingsError
from taskmill.server.auth.introspection import Introspection
from taskmill.server.auth.issuer_keys import IssuerKeys, KeySource, StaticKey
from taskmill.server.auth.jwt_verifier import JwtVerifier
from taskmill.server.auth.settings import AuthenticationSettings
from taskmill.store.setting_names import setting_example, setting_name

__all__ = ["Authentication", "authentication_of"]

_LOCAL = ("localhost", "127.0.0.1", "::1")


_Call = Callable[[], Coroutine[Any, Any, None]]


async def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Authentication:
    """What the settings say about tokens."""

    verifier: TokenVerifier
    issuer: str
    """The authorization server, where clients get their tokens."""
    required_scopes: tuple[str, ...]
    audience: tuple[str, ...]
    """What tokens name in `aud`; one of these may be the URL of the endpoint."""
    resource: str | None
    """URL of the MCP endpoint; None = as each request says."""
    check: Callable[[], Coroutine[Any, Any, None]] = _nothing
    """Ask the issuer for what it must answer; raises AuthenticationUnavailable, with words for an operator."""
    close: Callable[[], Coroutine[Any, Any, None]] = _nothing
    """Call it when the server stops."""


def authentication_of(settings: AuthenticationSettings) -> Authentication | None:
    """What the settings describe, None = no authentication.

    Raises:
        SettingsError: they say half of it, or contradict each other. A server that was meant to be closed never opens.
    """
    issuer = settings.auth_issuer
    if issuer is None:
        _refuse_half(settings)
        return None
    for name in ("auth_issuer", "auth_jwks_url", "auth_introspection_url"):
        _check_transport(name, getattr(settings, name))
    checks: dict[str, Any] = {
        "issuer": issuer,
        "audience": settings.auth_audience,
        "leeway": settings.auth_leeway,
        "allow_client_tokens": bool(settings.auth_allow_client_tokens),
    }
    if settings.auth_introspection_url is not None:
        asking = _introspection(settings, settings.auth_introspection_url, checks)
        return _described(settings, issuer, asking, check=asking.check, close=asking.close)
    if not settings.auth_audience:
        raise SettingsError(
            "A token for another service of the issuer would be accepted here: say what tokens for this server have in "
            f"their aud: {setting_example('auth_audience', 'https://tools.example.com/mcp')}."
        )
    keys = _keys(settings, issuer)
    verifier = JwtVerifier(keys, algorithms=settings.auth_algorithms, **checks)
    return _described(settings, issuer, verifier, check=keys.check)


def _described(
    settings: AuthenticationSettings,
    issuer: str,
    verifier: TokenVerifier,
    **calls: Callable[[], Coroutine[Any, Any, None]],
) -> Authentication:
    scopes, audience = settings.auth_required_scopes, settings.auth_audience
    return Authentication(verifier, issuer, scopes, audience, settings.auth_resource, **calls)


def _refuse_half(settings: AuthenticationSettings) -> None:
    """Refuse settings of authentication without an issuer: without this check they would do nothing at all."""
    given = sorted(name for name in settings.model_fields_set if name.startswith("auth_") and getattr(settings, name))
    if given:
        raise SettingsError(
            f"{setting_name(given[0])} is set, and the issuer of tokens is not, so nothing would be checked: "
            f"{setting_example('auth_issuer', 'https://login.example.com')}."
        )


def _check_transport(name: str, url: str | None) -> None:
    parts = urlsplit(url or "")
    if parts.scheme == "http" and parts.hostname not in _LOCAL:
        raise SettingsError(
            f"{setting_name(name)}: over http anyone on the way could put in their own keys. Write https; http is for "
            "localhost only."
        )


def _keys(settings: AuthenticationSettings, issuer: str) -> KeySource:
    if settings.auth_public_key is None:
        return IssuerKeys(issuer, settings.auth_jwks_url)
    if settings.auth_jwks_url is not None:
        raise SettingsError(f"Set {setting_name('auth_public_key')} or {setting_name('auth_jwks_url')}, not both.")
    key = _public_key(settings.auth_public_key)
    for name in settings.auth_algorithms:
        try:
            jwt.get_algorithm_by_name(name).prepare_key(key)
        except (jwt.PyJWTError, TypeError, ValueError):
            continue
        return StaticKey(key)
    raise SettingsError(
        f"{setting_name('auth_public_key')} is no key for {', '.join(settings.auth_algorithms)}: set "
        f"{setting_name('auth_algorithms')} as well."
    )


def _public_key(given: str) -> Any:
    name = setting_name("auth_public_key")
    text = given
    if not given.lstrip().startswith("-----BEGIN"):
        try:
            text = Path(given).read_text(encoding="ascii")
        except (OSError, ValueError) as exc:
            raise SettingsError(f"{name}: it is neither a key in PEM nor a file with one.") from exc
    if "PRIVATE KEY" in text:
        raise SettingsError(f"{name}: this is a private key. Set the public one, and keep the other at the issuer.")
    try:
        return load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise SettingsError(f"{name}: it is no public key in PEM (-----BEGIN PUBLIC KEY-----).") from exc


def _introspection(settings: AuthenticationSettings, url: str, checks: dict[str, Any]) -> Introspection:
    missing = [
        setting_name(name)
        for name in ("auth_introspection_client_id", "auth_introspection_client_secret")
        if not getattr(settings, name)
    ]
    if missing:
        raise SettingsError(f"{setting_name('auth_introspection_url')} needs {' and '.join(missing)}: who asks there.")
    if settings.auth_jwks_url or settings.auth_public_key:
        raise SettingsError(
            f"With {setting_name('auth_introspection_url')} the issuer checks each token, and no key is used: leave "
            f"out {setting_name('auth_jwks_url' if settings.auth_jwks_url else 'auth_public_key')}."
        )
    client_id, secret = settings.auth_introspection_client_id, settings.auth_introspection_client_secret
    in_body = settings.auth_introspection_client_auth == "client_secret_post"
    return Introspection(url, client_id or "", secret or "", secret_in_body=in_body, **checks)
