"""Artifacts in an S3-compatible bucket, through obstore, which reads the usual `AWS_*` variables."""

import atexit
import importlib
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from taskmill.engine.artifact import PIECE
from taskmill.engine.errors import ArtifactsUnavailable, SettingsError

__all__ = ["S3Backend"]

_PART = 5 * 1024 * 1024
"""Bytes of one part of an upload; the smallest that S3 takes."""
_AT_ONCE = 2


@cache
def _exit_slowly() -> None:
    """Let obstore's threads come to rest before the interpreter ends; without it they may abort the process (0.12)."""
    atexit.register(time.sleep, 0.1)


class S3Backend:
    """Artifacts under `s3://bucket/prefix`."""

    name = "bucket"

    def __init__(self, url: str) -> None:
        """Nothing is contacted yet.

        Raises:
            SettingsError: obstore is not installed, or the address or an `AWS_*` variable cannot work.
        """
        try:
            self._obstore: Any = importlib.import_module("obstore")
            stores: Any = importlib.import_module("obstore.store")
        except ImportError:
            raise SettingsError("TASKMILL_ARTIFACTS=s3://... needs obstore: pip install 'taskmill[s3]'.") from None
        _exit_slowly()
        self._shown = url
        try:
            self._store = stores.S3Store.from_url(url)
        except (ValueError, OSError, self._obstore.exceptions.BaseError) as exc:
            raise SettingsError(f"TASKMILL_ARTIFACTS={url} cannot work: {_first_line(exc)}") from None

    async def write(self, blob_id: str, blocks: AsyncIterable[bytes]) -> None:
        """Keep the bytes; the object appears when it is complete.

        Raises:
            ArtifactsUnavailable: the bucket refused or did not answer.
        """
        source = _Remembering(blocks)
        try:
            with self._faults():
                await self._obstore.put_async(
                    self._store, blob_id, source, chunk_size=_PART, max_concurrency=_AT_ONCE, use_multipart=True
                )
        except ArtifactsUnavailable:
            if source.error is not None:
                raise source.error from None  # the tool's own error went through obstore, which renames it
            raise

    async def read(self, blob_id: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """Bytes from `start` to before `stop`.

        Raises:
            ArtifactsUnavailable: the object is gone, or the bucket refused or did not answer.
        """
        if start >= stop:
            return
        with self._faults():
            found = await self._obstore.get_async(self._store, blob_id, options={"range": (start, stop)})
            pieces = aiter(found.stream(min_chunk_size=PIECE))
        while True:
            with self._faults():
                try:
                    piece = await anext(pieces)
                except StopAsyncIteration:
                    return
            yield bytes(piece)

    async def delete(self, blob_id: str) -> None:
        """Forget the bytes."""
        try:
            with self._faults():
                await self._obstore.delete_async(self._store, blob_id)
        except ArtifactsUnavailable as exc:
            if not isinstance(exc.__cause__, FileNotFoundError):
                raise

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, self._obstore.exceptions.BaseError) as exc:
            text = f"The artifact bucket {self._shown} cannot be used: {type(exc).__name__}: {_first_line(exc)}"
            raise ArtifactsUnavailable(text) from exc


class _Remembering:
    """The blocks, and the error they ended in, if any."""

    def __init__(self, blocks: AsyncIterable[bytes]) -> None:
        self._blocks = aiter(blocks)
        self.error: BaseException | None = None

    def __aiter__(self) -> "_Remembering":
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._blocks)
        except StopAsyncIteration:
            raise
        except BaseException as exc:
            self.error = exc
            raise


def _first_line(exc: BaseException) -> str:
    return (str(exc).splitlines() or [""])[0][:300]
