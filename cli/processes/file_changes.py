"""The author's files that a process has loaded, to notice when one of them changes."""

import asyncio
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

__all__ = ["SourceFiles"]

_CHECK_EVERY = 0.5
_SETTLE = 0.1
"""Seconds without a further change: an editor may write several files, and one in parts."""
_OURS = "taskmill."
_INSTALLED = ("site-packages", "dist-packages")

Stamp = tuple[int, int]


class SourceFiles:
    """Files as they were when they were loaded."""

    def __init__(self, stamps: Mapping[Path, Stamp | None]) -> None:
        """`stamps`: time of change (ns) and size in bytes of each file; None = it did not exist."""
        self.stamps = dict(stamps)

    @classmethod
    def loaded(cls, main: Path | None) -> Self:
        """The server's file and the modules beside and below it that are loaded here, without installed ones.

        None = the server is none of the author's, so there are none.
        """
        if main is None:
            return cls({})
        modules = [module for name, module in sys.modules.items() if not name.startswith(_OURS)]
        files = {Path(file).resolve() for module in modules if (file := getattr(module, "__file__", None))}
        authored = {path for path in files if path.is_relative_to(main.parent) and not _is_installed(path)}
        return cls({path: _stamp(path) for path in authored | {main}})

    def now(self, *, with_new_files: bool = False) -> Self:
        """The files as they are now; `with_new_files`: also others that have come into their folders."""
        paths = set(self.stamps)
        if with_new_files:
            paths |= {file for folder in {path.parent for path in paths} for file in folder.glob("*.py")}
        return type(self)({path: _stamp(path) for path in paths})

    def as_json(self) -> dict[str, Stamp | None]:
        """The stamps by path, for another process."""
        return {str(path): stamp for path, stamp in self.stamps.items()}

    @classmethod
    def from_json(cls, stamps: Mapping[str, list[int] | None]) -> Self:
        """What `as_json` gave."""
        return cls({Path(path): None if stamp is None else (stamp[0], stamp[1]) for path, stamp in stamps.items()})

    async def wait_for_change(self, on_missing: Callable[[Path], None] | None = None) -> list[Path]:
        """Return the files that have changed, once one has.

        A deleted file counts as unchanged, since an editor may write it again; `on_missing` is called once for each.
        """
        missing: set[Path] = set()
        while True:
            now = self.now().stamps
            changed = [path for path, stamp in now.items() if stamp not in (None, self.stamps[path])]
            if changed:
                await asyncio.sleep(_SETTLE)
                if self.now().stamps == now:
                    return changed
                continue
            gone = {path for path, stamp in now.items() if stamp is None and self.stamps[path] is not None}
            for path in gone - missing:
                if on_missing is not None:
                    on_missing(path)
            missing = gone
            await asyncio.sleep(_CHECK_EVERY)


def _is_installed(path: Path) -> bool:
    folders = [Path(prefix) for prefix in (sys.prefix, sys.base_prefix)]
    return any(path.is_relative_to(location) for location in folders) or any(part in _INSTALLED for part in path.parts)


def _stamp(path: Path) -> Stamp | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
