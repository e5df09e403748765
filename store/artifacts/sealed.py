"""Artifacts at rest under the seal keys: AES-GCM a block, so that any range can be read without the rest.

The artifact's id and the block's number are bound as associated data, so blocks cannot be swapped or moved; that none
is missing shows in the size, which is kept elsewhere.
"""

import hashlib
import os
from collections.abc import AsyncIterable, AsyncIterator, Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from taskmill.engine.errors import DecryptionFailed
from taskmill.store.artifacts.backends import BLOCK, BlobBackend, in_blocks

__all__ = ["SealedBackend"]

_KEY_ID, _NONCE, _TAG = 4, 12, 16
_FRAME = _KEY_ID + _NONCE + BLOCK + _TAG


class SealedBackend:
    """Another backend with every block sealed: the first key seals, every key opens."""

    def __init__(self, backend: BlobBackend, keys: Sequence[bytes], size: int = 0) -> None:
        """`size`: of the artifact, where it is read."""
        self._backend = backend
        self._ring = {hashlib.sha256(key).digest()[:_KEY_ID]: AESGCM(key) for key in keys}
        self._size = size
        self.name = backend.name

    async def write(self, blob_id: str, blocks: AsyncIterable[bytes]) -> None:
        """Keep the bytes, sealed."""
        await self._backend.write(blob_id, self._sealed(blob_id, blocks))

    async def read(self, blob_id: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """Bytes from `start` to before `stop`.

        Raises:
            SealBroken: the key is not in the ring, or the bytes were changed.
        """
        if start >= stop:
            return
        number = start // BLOCK
        last = (min(stop, self._size) - 1) // BLOCK
        full = self._size // BLOCK * _FRAME
        tail = self._size % BLOCK
        end = min((last + 1) * _FRAME, full + (tail + _FRAME - BLOCK if tail else 0))
        async for frame in in_blocks(self._backend.read(blob_id, number * _FRAME, end), _FRAME):
            block = self._open(frame, blob_id, number)
            begin = number * BLOCK
            yield block[max(0, start - begin) : stop - begin]
            number += 1

    async def delete(self, blob_id: str) -> None:
        """Forget the bytes."""
        await self._backend.delete(blob_id)

    async def _sealed(self, blob_id: str, blocks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        key_id, key = next(iter(self._ring.items()))
        number = 0
        async for block in in_blocks(blocks):
            nonce = os.urandom(_NONCE)
            yield key_id + nonce + key.encrypt(nonce, block, _bound(blob_id, number))
            number += 1

    def _open(self, frame: bytes, blob_id: str, number: int) -> bytes:
        key = self._ring.get(frame[:_KEY_ID])
        if key is None:
            raise DecryptionFailed("A stored artifact was sealed with a key that is not in TASKMILL_SEAL_KEYS.")
        nonce, sealed = frame[_KEY_ID : _KEY_ID + _NONCE], frame[_KEY_ID + _NONCE :]
        try:
            return key.decrypt(nonce, sealed, _bound(blob_id, number))
        except (InvalidTag, ValueError) as exc:
            raise DecryptionFailed("A stored artifact was changed.", artifact=blob_id) from exc


def _bound(blob_id: str, number: int) -> bytes:
    return f"{blob_id}:{number}".encode()
