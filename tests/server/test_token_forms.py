"""The forms that good access tokens have at different issuers, checked without a server."""

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import OKPAlgorithm

from taskmill.engine.errors import SettingsError
from taskmill.server.auth.authentication import authentication_of
from taskmill.server.auth.issuer_keys import PublishedKeys
from taskmill.server.auth.jwt_verifier import JwtVerifier
from taskmill.server.settings import ServerSettings
from tests.support.issuer import AUDIENCE, Issuer

ISSUER = Issuer()
ISSUER.url = "https://login.example"
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Published:
    """Keys that are known already."""

    def __init__(self, *keys: tuple[str | None, Any]) -> None:
        self._keys = PublishedKeys.of({"keys": [_published(key_id, key) for key_id, key in keys]})

    async def find(self, key_id: str | None, algorithm: str) -> Any | None:
        return self._keys.find(key_id, algorithm)

    async def check(self) -> None:
        """They are there."""


def _published(key_id: str | None, key: Any) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    return document if key_id is None else {**document, "kid": key_id}


def verifier(keys: Published | None = None) -> JwtVerifier:
    own = keys or Published((ISSUER.key_id, ISSUER.private))
    audiences = [AUDIENCE, "https://reports.example"]
    return JwtVerifier(own, issuer=ISSUER.url, audience=audiences, algorithms=("RS256",), leeway=30)


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scope": "read write"}, ["read", "write"]),
        ({"scope": ["read", "write"]}, ["read", "write"]),
        ({"scp": "read write"}, ["read", "write"]),
        ({"scp": ["read", "write"]}, ["read", "write"]),
        ({"scope": "read", "scp": "act"}, ["read"]),
        ({"scope": "", "scp": "act"}, []),
        ({"scope": 7}, []),
        ({}, []),
    ],
)
async def test_scopes_are_a_text_or_a_list_and_scope_wins_over_scp(claims: dict[str, Any], scopes: list[str]) -> None:
    token = await verifier().verify_token(ISSUER.token(**claims))
    assert token is not None
    assert token.scopes == scopes


@pytest.mark.parametrize(
    "audience", [[AUDIENCE, "other"], ["other", "https://reports.example"], "https://reports.example"]
)
async def test_one_audience_of_several_is_enough(audience: Any) -> None:
    assert await verifier().verify_token(ISSUER.token(aud=audience)) is not None


@pytest.mark.parametrize(
    ("keys", "is_good"),
    [
        ([("a", ISSUER.private)], True),
        ([(None, ISSUER.private)], True),
        ([("a", OTHER)], False),
        ([("a", ISSUER.private), ("b", OTHER)], False),
        ([("a", ISSUER.private), ("a", OTHER)], False),
    ],
    ids=["the only key", "the only key, without an id", "another key", "two keys", "two keys of one id"],
)
async def test_a_token_without_a_key_id_is_good_where_there_is_one_key(keys: list[Any], is_good: bool) -> None:
    nameless = jwt.encode(ISSUER.claims(), ISSUER.private, "RS256")
    assert (await verifier(Published(*keys)).verify_token(nameless) is not None) is is_good


async def test_a_token_with_the_id_of_another_key_is_refused_whoever_signed_it() -> None:
    keys = Published(("a", ISSUER.private), ("b", OTHER))
    assert await verifier(keys).verify_token(ISSUER.token(header={"kid": "a"})) is not None
    for key_id in ("b", "c", ""):
        assert await verifier(keys).verify_token(ISSUER.token(header={"kid": key_id})) is None


async def test_the_client_has_one_of_several_names_and_is_never_the_user() -> None:
    for name in ("client_id", "azp", "appid", "cid"):
        token = await verifier().verify_token(ISSUER.token(**{"client_id": None, name: "app7"}))
        assert token is not None
        assert (token.client_id, token.subject) == ("app7", "ada")
    nameless = await verifier().verify_token(ISSUER.token(client_id=None))
    assert nameless is not None
    assert (nameless.client_id, nameless.subject) == ("", "ada")


def _signed(key: Any, algorithm: str) -> str:
    """A token whose header names the algorithm by either of its names."""
    library = jwt.PyJWS()
    if algorithm == "Ed25519":
        library.register_algorithm(algorithm, OKPAlgorithm())
    return library.encode(json.dumps(ISSUER.claims()).encode(), key, algorithm, {"typ": "at+jwt"})


@pytest.mark.parametrize("of_key", [None, "EdDSA", "Ed25519"])
@pytest.mark.parametrize("of_token", ["EdDSA", "Ed25519"])
async def test_a_signature_of_ed25519_has_two_names(of_key: str | None, of_token: str) -> None:
    key = Ed25519PrivateKey.generate()
    document = {**json.loads(OKPAlgorithm.to_jwk(key.public_key())), **({} if of_key is None else {"alg": of_key})}
    keys = Published()
    keys._keys = PublishedKeys.of({"keys": [document]})
    token = _signed(key, of_token)
    for accepted, is_good in [((of_token,), True), (("EdDSA", "Ed25519"), True), (("RS256",), False)]:
        checks = JwtVerifier(keys, issuer=ISSUER.url, audience=[AUDIENCE], algorithms=accepted, leeway=30)
        assert (await checks.verify_token(token) is not None) is is_good
        assert await checks.verify_token(_signed(Ed25519PrivateKey.generate(), of_token)) is None


def test_a_set_key_of_ed25519_is_of_that_curve() -> None:
    for key, is_good in [(Ed25519PrivateKey.generate(), True), (Ed448PrivateKey.generate(), False)]:
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        given = {"auth_issuer": "https://a.example", "auth_audience": "x", "auth_public_key": pem}
        settings = ServerSettings(**given, auth_algorithms="Ed25519")
        if is_good:
            assert authentication_of(settings) is not None
            continue
        with pytest.raises(SettingsError, match="no key for Ed25519"):
            authentication_of(settings)
