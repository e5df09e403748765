"""A wall clock for a private Redis that a test moves, by a few lines of C between the server and the C library."""

import os
import shutil
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path

__all__ = ["MovableClock", "can_move_clocks"]

_SOURCE = Path(__file__).with_suffix(".c")
_BUILT = _SOURCE.parent.parent / "build" / "movable_clock.so"


@cache
def can_move_clocks() -> bool:
    """Whether this machine has what it takes: Linux and a C compiler."""
    return sys.platform == "linux" and shutil.which("cc") is not None


class MovableClock:
    """`environment` is the server's."""

    def __init__(self, directory: Path) -> None:
        self._offset = directory / "clock"
        self._offset.write_bytes(struct.pack("=q", 0))
        self.environment = {"LD_PRELOAD": str(_library()), "CLOCK_OFFSET": str(self._offset)}

    def move(self, seconds: float) -> None:
        """Set the clock forward, or back with a number below 0, from where it is."""
        with self._offset.open("r+b") as file:
            (ahead,) = struct.unpack("=q", file.read())
            file.seek(0)
            file.write(struct.pack("=q", ahead + round(seconds * 1_000_000)))


def _library() -> Path:
    if not _BUILT.exists() or _BUILT.stat().st_mtime < _SOURCE.stat().st_mtime:
        _BUILT.parent.mkdir(exist_ok=True)
        fresh = _BUILT.with_name(f"{_BUILT.name}.{os.getpid()}")
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(fresh), str(_SOURCE)], check=True)
        fresh.replace(_BUILT)
    return _BUILT
