"""The audit trail in a file: one JSON object a line, only ever appended to."""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

from taskmill.engine.errors import SettingsError

__all__ = ["AuditFile"]

_FLAGS = os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0)
"""Nothing waits here, as the opening of a pipe without a reader would."""
_OWNER_ONLY = 0o600
_NO_FILE = "it is no regular file"


class AuditFile:
    """A file that several processes may append to. Rotated by renaming it: the next line makes a new one."""

    def __init__(self, path: Path) -> None:
        """Opens it.

        Raises:
            SettingsError: it cannot be opened, or it is no regular file.
        """
        self.path = path
        self._is_torn = False
        """Whether the last line was written in part."""
        try:
            self._descriptor, self._identity = _open(path)
        except OSError as exc:
            raise SettingsError(
                f"TASKMILL_AUDIT: {path} cannot be opened: {exc.strerror}. Its folder must exist, and this user must "
                "be able to write there."
            ) from exc

    def write(self, line: bytes) -> None:
        """Append a line. It is whole, whichever process writes beside this one, and whatever was left in the file.

        Raises:
            OSError: it cannot be written, or not be opened again after a rotation.
        """
        if self._is_rotated():
            descriptor, self._identity = _open(self.path)
            os.close(self._descriptor)
            self._descriptor, self._is_torn = descriptor, False
        text = b"\n" + line if self._ends_in_mid_line() else line
        self._is_torn = os.write(self._descriptor, text) != len(text)
        if self._is_torn:
            raise OSError(errno.ENOSPC, "the disk is full, and a line was written in part")

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)

    def _ends_in_mid_line(self) -> bool:
        """Whether a disk that was full, or a machine that stopped, left a part of a line: the next would join it."""
        with suppress(OSError):  # of a file that this user may write and not read, only its own parts are known
            size = os.fstat(self._descriptor).st_size
            return size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"
        return self._is_torn

    def _is_rotated(self) -> bool:
        try:
            found = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return True
        return (found.st_dev, found.st_ino) != self._identity


def _open(path: Path) -> tuple[int, tuple[int, int]]:
    try:
        descriptor = _opened(path)
    except OSError as exc:
        if exc.errno in (errno.ENXIO, errno.ELOOP):
            raise OSError(exc.errno, _NO_FILE) from exc
        raise
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, _NO_FILE)
    return descriptor, (found.st_dev, found.st_ino)


def _opened(path: Path) -> int:
    try:
        return os.open(path, _FLAGS | os.O_RDWR, _OWNER_ONLY)
    except PermissionError:
        return os.open(path, _FLAGS | os.O_WRONLY, _OWNER_ONLY)
