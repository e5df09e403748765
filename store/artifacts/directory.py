"""Artifacts in a directory that every server and worker shares: one file each, renamed into place when complete."""

import os
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import anyio.to_thread

from taskmill.engine.artifact import PIECE
from taskmill.engine.errors import ArtifactsUnavailable

__all__ = ["DirectoryBackend"]


class DirectoryBackend:
    """Artifacts under one path, which is made when it is first needed, readable by this user only."""

    name = "directory"

    def __init__(self, path: str) -> None:
        self._root = Path(path).expanduser()

    async def write(self, blob_id: str, blocks: AsyncIterable[bytes]) -> None:
        """Keep the bytes: on disk before this returns, and under their name only when complete.

        Raises:
            ArtifactsUnavailable: the directory cannot be written, or is full.
        """
        final = self._file(blob_id)
        part = _part_of(final)
        with _faults(self._root):
            file = await anyio.to_thread.run_sync(_create, part)
        try:
            async for block in blocks:
                with _faults(self._root):
                    await anyio.to_thread.run_sync(file.write, block)
            with _faults(self._root):
                await anyio.to_thread.run_sync(_finish, file, part, final)
        finally:
            with suppress(OSError):
                file.close()
                part.unlink(missing_ok=True)

    async def read(self, blob_id: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """Bytes from `start` to before `stop`.

        Raises:
            ArtifactsUnavailable: the file is gone or cannot be read.
        """
        with _faults(self._root):
            file = await anyio.to_thread.run_sync(self._file(blob_id).open, "rb", 0)
        try:
            at = start
            while at < stop:
                with _faults(self._root):
                    piece = await anyio.to_thread.run_sync(os.pread, file.fileno(), min(PIECE, stop - at), at)
                if not piece:
                    raise ArtifactsUnavailable("An artifact's file is shorter than it was written.", artifact=blob_id)
                at += len(piece)
                yield piece
        finally:
            file.close()

    async def delete(self, blob_id: str) -> None:
        """Forget the bytes."""
        with _faults(self._root):
            await anyio.to_thread.run_sync(_remove, self._file(blob_id))

    def _file(self, blob_id: str) -> Path:
        # Ids are ours and hold no path; two letters spread them over folders that stay small.
        return self._root / blob_id[:2] / blob_id


def _part_of(final: Path) -> Path:
    """Where the bytes are until they are complete; an id is written once."""
    return final.with_name(f"{final.name}.part")


def _remove(final: Path) -> None:
    """The file, or what a writer that died left of it."""
    for path in (final, _part_of(final)):
        path.unlink(missing_ok=True)


def _create(part: Path) -> IO[bytes]:
    for folder in (part.parent.parent, part.parent):  # the mode is not for those above
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0)


def _finish(file: IO[bytes], part: Path, final: Path) -> None:
    os.fsync(file.fileno())
    file.close()
    part.replace(final)
    folder = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _faults(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if isinstance(exc, FileNotFoundError):
            raise ArtifactsUnavailable(f"An artifact's file is not in {root}: do all processes share it?") from exc
        raise ArtifactsUnavailable(f"The artifact directory {root} cannot be used: {exc.strerror}.") from exc
