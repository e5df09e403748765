"""The key that protects `requestState` of multi-round calls, shared by all replicas.

The SDK's default key exists in one process only; here the next round may arrive at another replica.
"""

import hashlib
import secrets
from collections.abc import Callable

from mcp.server.request_state import AESGCMRequestStateCodec, InvalidRequestState

__all__ = ["ROUND_TTL", "SharedStateCodec"]

ROUND_TTL = 24 * 3600.0
"""Seconds a client may take to answer a call's questions."""


class SharedStateCodec:
    """The SDK's AES-GCM codec, with keys that are known only once the store is open, and may be exchanged then."""

    def __init__(self) -> None:
        self._read: Callable[[], tuple[bytes, ...]] = tuple
        self._secrets: tuple[bytes, ...] = ()
        self._codec: AESGCMRequestStateCodec | None = None

    def use(self, read: Callable[[], tuple[bytes, ...]]) -> None:
        """Seal with a key derived from the first of the secrets that `read` returns, and open with one of any."""
        self._read = read

    def seal(self, payload: bytes) -> str:
        """See the SDK's `RequestStateCodec`."""
        if self._current() is None:
            own = (secrets.token_bytes(32),)
            self.use(lambda: own)
        codec = self._current()
        assert codec is not None
        return codec.seal(payload)

    def unseal(self, token: str) -> bytes:
        """See the SDK's `RequestStateCodec`.

        Raises:
            InvalidRequestState: not sealed by this deployment, or changed since.
        """
        codec = self._current()
        if codec is None:
            raise InvalidRequestState("no key")
        return codec.unseal(token)

    def _current(self) -> AESGCMRequestStateCodec | None:
        """The codec with the secrets of now; None = there are none."""
        now = self._read()
        if now != self._secrets:
            keys = [hashlib.sha256(b"taskmill request state\0" + secret).digest() for secret in dict.fromkeys(now)]
            self._secrets, self._codec = now, AESGCMRequestStateCodec(keys)
        return self._codec
