"""A configuration file of another program: read as it is, and replaced in one step, so that it is never half written.

The meaning of its text is not known here.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from taskmill.cli.errors import UsageError
from taskmill.engine.errors import OperatorError

__all__ = ["ConfigFile", "ConfigSyntaxError", "read_config", "write_private"]

_BYTE_ORDER_MARK = "\ufeff"
"""Some editors write it first; it is kept."""


class ConfigSyntaxError(ValueError):
    """The text is not what its program reads; `str()` says what is wrong, and where if that is known."""


@dataclass(frozen=True)
class ConfigFile:
    """A file as it was when it was read."""

    path: Path
    """The path in the host's documentation; it may be a symbolic link."""
    data: bytes | None
    """None: there is no such file."""

    @property
    def text(self) -> str:
        """Its text, without a byte order mark.

        Raises:
            UsageError: it is not UTF-8 text.
        """
        try:
            return (self.data or b"").decode("utf-8").removeprefix(_BYTE_ORDER_MARK)
        except UnicodeDecodeError:
            raise UsageError(f"{self.path} is not UTF-8 text, so it is left alone. Save it as UTF-8 first.") from None

    def replace(self, text: str, *, private: bool) -> Path | None:
        """Write another text in one step, and keep a copy of the old file; the copy's path, None if there was no file.

        The file keeps its mode and owner, and a symbolic link stays one. A new file is readable by others unless
        `private`.

        Raises:
            OperatorError: it has changed since it was read, or cannot be written. It is unchanged then.
        """
        mark = _BYTE_ORDER_MARK if (self.data or b"").startswith(_BYTE_ORDER_MARK.encode()) else ""
        target = Path(os.path.realpath(self.path))
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if _read_bytes(target) != self.data:
                raise OperatorError(f"{self.path} was changed meanwhile, so it is left alone. Try again.")
            like = target.stat() if self.data is not None else None
            backup = None if self.data is None else _write_new(_backup_paths(target), self.data, like, private=True)
            written = _write_new(_temporary_paths(target), (mark + text).encode(), like, private=private)
            try:
                written.replace(target)
            except BaseException:
                written.unlink()
                raise
            _sync(target.parent)
        except OSError as exc:
            raise OperatorError(f"Cannot write {self.path}: {exc.strerror or exc}.") from exc
        return backup


def read_config(path: Path) -> ConfigFile:
    """The file as it is now; it need not exist.

    Raises:
        OperatorError: it cannot be read.
    """
    try:
        return ConfigFile(path, _read_bytes(path))
    except OSError as exc:
        raise OperatorError(f"Cannot read {path}: {exc.strerror or exc}.") from exc


def write_private(path: Path, text: str) -> None:
    """Write a file of our own in one step, for this user's eyes only.

    Raises:
        OperatorError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_new(_temporary_paths(path), text.encode(), None, private=True).replace(path)
    except OSError as exc:
        raise OperatorError(f"Cannot write {path}: {exc.strerror or exc}.") from exc


def _read_bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _backup_paths(target: Path) -> Iterator[Path]:
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    yield target.with_name(f"{target.name}.{stamp}.backup")
    for number in count(2):
        yield target.with_name(f"{target.name}.{stamp}-{number}.backup")


def _temporary_paths(target: Path) -> Iterator[Path]:
    for number in count():
        yield target.with_name(f".{target.name}.{os.getpid()}-{number}.tmp")


def _write_new(paths: Iterator[Path], data: bytes, like: os.stat_result | None, *, private: bool) -> Path:
    """Write the data to the first of `paths` that does not exist, with mode and owner of `like`; that path."""
    for path in paths:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private or like else 0o666)
        except FileExistsError:
            continue
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                if like is not None:
                    with contextlib.suppress(PermissionError):
                        os.fchown(descriptor, like.st_uid, like.st_gid)
                    os.fchmod(descriptor, stat.S_IMODE(like.st_mode))
                file.flush()
                os.fsync(descriptor)
        except BaseException:
            path.unlink()
            raise
        return path
    raise AssertionError("the paths do not end")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
