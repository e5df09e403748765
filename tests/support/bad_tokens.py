"""Tokens that no server may accept, by what is wrong with each; of an issuer of tests."""

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.support.issuer import Issuer

__all__ = ["BAD_TOKENS"]

_FOREIGN = rsa.generate_private_key(public_exponent=65537, key_size=2048)
_CURVE = ec.generate_private_key(ec.SECP256R1())


def _part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _unsigned(issuer: Issuer) -> str:
    return f"{_part({'alg': 'none', 'typ': 'JWT'})}.{_part(issuer.claims())}."


def _signed_with_the_public_key(issuer: Issuer) -> str:
    import hashlib
    import hmac

    head = f"{_part({'alg': 'HS256', 'typ': 'JWT', 'kid': issuer.key_id})}.{_part(issuer.claims())}"
    mac = hmac.new(issuer.pem.encode(), head.encode(), hashlib.sha256).digest()
    return f"{head}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def _with_changed_claims(issuer: Issuer) -> str:
    head, _, signature = issuer.token().split(".")
    return f"{head}.{_part(issuer.claims('root'))}.{signature}"


def _with_a_key_in_its_header(issuer: Issuer) -> str:
    key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(_FOREIGN.public_key()))
    return issuer.token(key=_FOREIGN, header={"kid": "mine", "jwk": key, "jku": f"{issuer.url}/mine"})


BAD_TOKENS: dict[str, Callable[[Issuer], str]] = {
    "no token at all": lambda issuer: "x",
    "three parts of nothing": lambda issuer: "not.a.jwt",
    "five parts, as of an encrypted one": lambda issuer: issuer.token() + ".x.y",
    "a key id that the issuer does not have": lambda issuer: issuer.token(header={"kid": "key-0"}),
    "two parts": lambda issuer: issuer.token().rpartition(".")[0],
    "no signature": lambda issuer: issuer.token().rpartition(".")[0] + ".",
    "unsigned": _unsigned,
    "signed with the public key as a secret": _signed_with_the_public_key,
    "changed claims": _with_changed_claims,
    "a foreign key under the issuer's id": lambda issuer: issuer.token(key=_FOREIGN),
    "a key of its own in the header": _with_a_key_in_its_header,
    "a key that is for encryption": lambda issuer: issuer.sign(
        issuer.claims(), key=_CURVE, alg="ES256", header={"kid": "enc"}
    ),
    "an algorithm that is not allowed": lambda issuer: issuer.sign(issuer.claims(), alg="RS512"),
    "another issuer": lambda issuer: issuer.token(iss="https://login.example.com"),
    "the issuer with a slash": lambda issuer: issuer.token(iss=issuer.url + "/"),
    "no issuer": lambda issuer: issuer.token(iss=None),
    "another audience": lambda issuer: issuer.token(aud="other"),
    "other audiences": lambda issuer: issuer.token(aud=["other", "reports2"]),
    "no audience": lambda issuer: issuer.token(aud=None),
    "an empty audience": lambda issuer: issuer.token(aud=[]),
    "no user": lambda issuer: issuer.token(sub=None),
    "an empty user": lambda issuer: issuer.token(sub=""),
    "a user that is a number": lambda issuer: issuer.token(sub=7),
    "expired": lambda issuer: issuer.token(exp=int(time.time()) - 100),
    "no end": lambda issuer: issuer.token(exp=None),
    "an end that is no time": lambda issuer: issuer.token(exp="tomorrow"),
    "an endless end": lambda issuer: issuer.token(exp=float("inf")),
    "not valid yet": lambda issuer: issuer.token(nbf=int(time.time()) + 100),
    "issued in the future": lambda issuer: issuer.token(iat=int(time.time()) + 100),
    "an ID token by its header": lambda issuer: issuer.token(header={"typ": "id_token+jwt"}),
    "a logout token": lambda issuer: issuer.token(header={"typ": "logout+jwt"}),
    "a logout token without a type": lambda issuer: issuer.token(
        events={"http://schemas.openid.net/event/backchannel-logout": {}}
    ),
    "an ID token without a type": lambda issuer: issuer.token(at_hash="77QmUPtjPfzWtF2AnpK9RQ"),
    "an ID token by its claims": lambda issuer: issuer.token(typ="ID"),
    "a refresh token": lambda issuer: issuer.token(token_use="refresh"),
    "bound to a key of its client": lambda issuer: issuer.token(cnf={"jkt": "x"}),
    "demands of its own": lambda issuer: issuer.token(header={"crit": ["exp"], "exp": 1}),
    "a key id that is no text": lambda issuer: "{}.{}.x".format(
        _part({"alg": "RS256", "kid": ["key-1"]}), _part(issuer.claims())
    ),
    "twenty kilobytes": lambda issuer: issuer.token(padding="x" * 20_000),
}
