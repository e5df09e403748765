"""A file of the operator's that is read again when it changes, without a signal. What stands in it is elsewhere."""

from pathlib import Path

__all__ = ["ChangingFile"]

_Stamp = tuple[int, int, int]


class ChangingFile:
    """Remembers which version of a file was read last."""

    def __init__(self, path: Path) -> None:
        """`path`: is about to be read."""
        self.path = path
        self._stamp = _stamp_of(path)

    def has_changed(self) -> bool:
        """Whether it has to be read again; true once for each change."""
        before, self._stamp = self._stamp, _stamp_of(self.path)
        return before != self._stamp


def _stamp_of(path: Path) -> _Stamp | None:
    """None = it is not there."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
