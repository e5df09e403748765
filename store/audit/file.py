"""The audit trail in a file: one JSON object a line, only ever appended to."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from taskmill.engine.errors import SettingsError

__all__ = ["AuditFile"]

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
_OWNER_ONLY = 0o600


class AuditFile:
    """A file that several processes may append to. Rotated by renaming it: the next line makes a new one."""

    def __init__(self, path: Path) -> None:
        """Opens it.

        Raises:
            SettingsError: it cannot be opened, or it is no regular file.
        """
        self.path = path
        try:
            self._descriptor, self._identity = _open(path)
        except OSError as exc:
            raise SettingsError(
                f"TASKMILL_AUDIT: {path} cannot be opened: {exc.strerror}. Its folder must exist, and this user must "
                "be able to write there."
            ) from exc

    def write(self, lines: Sequence[bytes]) -> None:
        """Append lines. Each is whole, whichever process writes beside this one.

        Raises:
            OSError: it cannot be written, or not be opened again after a rotation.
        """
        if self._is_rotated():
            descriptor, self._identity = _open(self.path)
            os.close(self._descriptor)
            self._descriptor = descriptor
        for line in lines:
            if os.write(self._descriptor, line) != len(line):
                raise OSError("a line was written in part: the disk is full")

    def close(self) -> None:
        """Close it."""
        os.close(self._descriptor)

    def _is_rotated(self) -> bool:
        try:
            found = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return True
        return (found.st_dev, found.st_ino) != self._identity


def _open(path: Path) -> tuple[int, tuple[int, int]]:
    descriptor = os.open(path, _FLAGS, _OWNER_ONLY)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise OSError(None, "it is no regular file")
    return descriptor, (found.st_dev, found.st_ino)
