"""The key that protects `requestState` of multi-round calls, shared by all replicas.

The SDK's default key exists in one process only; here the next round may arrive at another replica.
"""

import hashlib
import secrets

from mcp.server.request_state import AESGCMRequestStateCodec, InvalidRequestState

__all__ = ["ROUND_TTL", "SharedStateCodec"]

ROUND_TTL = 24 * 3600.0
"""Seconds a client may take to answer a call's questions."""


class SharedStateCodec:
    """The SDK's AES-GCM codec, with a key that is known only once the store is open."""

    def __init__(self) -> None:
        self._codec: AESGCMRequestStateCodec | None = None

    def use(self, *secrets_: bytes) -> None:
        """Seal with a key derived from the first secret, and open with one of any."""
        keys = [hashlib.sha256(b"taskmill request state\0" + secret).digest() for secret in dict.fromkeys(secrets_)]
        self._codec = AESGCMRequestStateCodec(keys)

    def seal(self, payload: bytes) -> str:
        """See the SDK's `RequestStateCodec`."""
        if self._codec is None:
            self.use(secrets.token_bytes(32))
        assert self._codec is not None
        return self._codec.seal(payload)

    def unseal(self, token: str) -> bytes:
        """See the SDK's `RequestStateCodec`.

        Raises:
            InvalidRequestState: not sealed by this deployment, or changed since.
        """
        if self._codec is None:
            raise InvalidRequestState("no key")
        return self._codec.unseal(token)
