"""Watches the author's files that this process has loaded, to notice when one of them changes."""

import asyncio
import os
import sys
from pathlib import Path

from taskmill.cli.loading import file_or_module

__all__ = ["SourceFiles"]

_CHECK_EVERY = 0.5
_OURS = "taskmill."
_INSTALLED = ("site-packages", "dist-packages")

Stamp = tuple[int, int]


class SourceFiles:
    """The server's file and the modules beside and below it, as they are now. Installed modules are left out."""

    def __init__(self, target: str) -> None:
        """`target`: the server; it must be loaded already."""
        location, is_module = file_or_module(target)
        main = Path(sys.modules[location].__file__ or location if is_module else location).resolve()
        modules = [module for name, module in sys.modules.items() if not name.startswith(_OURS)]
        loaded = {Path(file).resolve() for module in modules if (file := getattr(module, "__file__", None))}
        authored = {path for path in loaded if path.is_relative_to(main.parent) and not _is_installed(path)}
        self._stamps = {path: _stamp(path) for path in authored | {main}}

    async def wait_for_change(self) -> None:
        """Return when one of them has changed. A deleted file counts as unchanged: an editor may write it again."""
        while True:
            now = {path: _stamp(path) for path in self._stamps}
            if any(stamp not in (None, self._stamps[path]) for path, stamp in now.items()):
                return
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
