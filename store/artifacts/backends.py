"""Where the bytes of artifacts are: what every backend offers, and which one the settings choose.

Bytes travel in blocks, so that neither a worker nor a server ever has a whole artifact in memory.
"""

from collections.abc import AsyncIterable, AsyncIterator
from typing import Protocol

from taskmill.engine.errors import SettingsError
from taskmill.store.artifacts.directory import DirectoryBackend
from taskmill.store.artifacts.s3 import S3Backend
from taskmill.store.settings import StoreSettings

__all__ = ["BLOCK", "BlobBackend", "in_blocks", "outside_backend"]

BLOCK = 256 * 1024
"""Bytes that are read, sealed and written at a time."""


class BlobBackend(Protocol):
    """Keeps bytes by artifact id. A blob is written once, whole, and can be read from then on."""

    name: str
    """Its name in an artifact's record."""

    async def write(self, blob_id: str, blocks: AsyncIterable[bytes]) -> None:
        """Keep the bytes; durable when this returns. If the blocks end in an error, nothing is kept."""

    def read(self, blob_id: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """Bytes from `start` to before `stop`, in pieces of some size."""

    async def delete(self, blob_id: str) -> None:
        """Forget the bytes; no error if there are none."""


def outside_backend(settings: StoreSettings) -> BlobBackend | None:
    """The directory or bucket of the settings; None = everything is kept in Redis.

    Raises:
        SettingsError: the bucket's library is not installed, or its address cannot work.
    """
    kind, _, where = settings.artifacts.partition(":")
    match kind:
        case "redis":
            return None
        case "dir":
            return DirectoryBackend(where)
        case "s3":
            return S3Backend(settings.artifacts)
        case _:
            raise SettingsError(f"TASKMILL_ARTIFACTS: {settings.artifacts!r} is not redis, dir:/path or s3://bucket.")


async def in_blocks(pieces: AsyncIterable[bytes], size: int = BLOCK) -> AsyncIterator[bytes]:
    """The same bytes in blocks of exactly `size`; only the last may be shorter."""
    rest = bytearray()
    async for piece in pieces:
        at = 0
        while len(rest) + len(piece) - at >= size:
            end = at + size - len(rest)
            rest += memoryview(piece)[at:end]
            yield bytes(rest)
            rest.clear()
            at = end
        rest += memoryview(piece)[at:]
    if rest:
        yield bytes(rest)
