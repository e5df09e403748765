"""The author's files that this process has loaded, and the news that one of them has changed since."""

import asyncio
import os
import sys
from pathlib import Path

from taskmill.cli.loading import place_of

__all__ = ["Sources"]

_LOOK_EVERY = 0.5
_OURS = "taskmill."
_INSTALLED = ("site-packages", "dist-packages")

Stamp = tuple[int, int]


class Sources:
    """The server's file and the modules beside and below it, as they are at this moment. What is installed stays."""

    def __init__(self, target: str) -> None:
        """`target`: the server, which has been loaded."""
        place, is_module = place_of(target)
        main = Path(sys.modules[place].__file__ or place if is_module else place).resolve()
        modules = [module for name, module in sys.modules.items() if not name.startswith(_OURS)]
        loaded = {Path(file).resolve() for module in modules if (file := getattr(module, "__file__", None))}
        beside = {path for path in loaded if path.is_relative_to(main.parent) and not _is_installed(path)}
        self._stamps = {path: _stamp(path) for path in beside | {main}}

    async def changed(self) -> None:
        """Return once one of them is not what it was. A file that is gone has not changed: it may come back."""
        while True:
            now = {path: _stamp(path) for path in self._stamps}
            if any(stamp not in (None, self._stamps[path]) for path, stamp in now.items()):
                return
            await asyncio.sleep(_LOOK_EVERY)


def _is_installed(path: Path) -> bool:
    places = [Path(prefix) for prefix in (sys.prefix, sys.base_prefix)]
    return any(path.is_relative_to(place) for place in places) or any(part in _INSTALLED for part in path.parts)


def _stamp(path: Path) -> Stamp | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
