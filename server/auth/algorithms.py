"""Signatures of access tokens that can be accepted: those of public keys (RFC 7518; for `Ed25519` RFC 9864).

PyJWT knows a signature of Ed25519 by the older name alone, `EdDSA`; here the newer one is made known to it.
"""

from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from jwt.algorithms import OKPAlgorithm

__all__ = ["ASYMMETRIC", "library_name"]

_BY_CURVE = "EdDSA"
_ED25519 = "Ed25519"
ASYMMETRIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", _BY_CURVE, _ED25519)


class _Ed25519(OKPAlgorithm):
    """`EdDSA` takes keys of two curves, this name of one."""

    def prepare_key(self, key: Any) -> Any:
        prepared = super().prepare_key(key)
        if not isinstance(prepared, Ed25519PublicKey):
            raise jwt.InvalidKeyError("This is no public key of Ed25519.")
        return prepared


def library_name(algorithm: str) -> str:
    """The name by which PyJWT reads published keys of an algorithm."""
    return _BY_CURVE if algorithm == _ED25519 else algorithm


def _make_known() -> None:
    try:
        jwt.get_algorithm_by_name(_ED25519)
    except NotImplementedError:
        jwt.register_algorithm(_ED25519, _Ed25519())


_make_known()
