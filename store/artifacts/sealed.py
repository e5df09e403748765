"""Artifacts at rest under the seal keys: AES-GCM a block, so that any range can be read without the rest.

The artifact's id and the block's number are bound as associated data, so blocks cannot be swapped or moved; that none
is missing shows in the size, which is kept elsewhere.
"""

from collections.abc import AsyncIterable, AsyncIterator

from taskmill.store.artifacts.backends import BLOCK, BlobBackend, in_blocks
from taskmill.store.formats.sealing import KEY_ID, NONCE, Sealer

__all__ = ["SealedBackend"]

_TAG = 16
_FRAME = KEY_ID + NONCE + BLOCK + _TAG


class SealedBackend:
    """Another backend with every block sealed: the first key seals, every key opens."""

    def __init__(self, backend: BlobBackend, sealer: Sealer, size: int = 0) -> None:
        """`size`: of the artifact, where it is read."""
        self._backend = backend
        self._sealer = sealer
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
            block = self._sealer.open_block(frame, blob_id, number)
            begin = number * BLOCK
            yield block[max(0, start - begin) : stop - begin]
            number += 1

    async def delete(self, blob_id: str) -> None:
        """Forget the bytes."""
        await self._backend.delete(blob_id)

    async def _sealed(self, blob_id: str, blocks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        number = 0
        async for block in in_blocks(blocks):
            yield self._sealer.seal_block(block, blob_id, number)
            number += 1
