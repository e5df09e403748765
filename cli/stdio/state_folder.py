"""Where a server that a host starts keeps its data: a folder of the user's for each server file.

Hosts start servers in any working directory, so nothing here depends on it.
"""

import hashlib
import importlib.util
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from taskmill.cli.loading import place_of
from taskmill.engine.errors import SettingsError

__all__ = ["state_folder", "states_of_user"]


def state_folder(target: str) -> Path:
    """The folder of the server file that `target` names, the same whatever way to it is written. Made by its user.

    Raises:
        SettingsError: this user has no home directory.
    """
    file = _file_of(target)
    digest = hashlib.sha256(os.fsencode(file)).hexdigest()[:12]
    stem = re.sub(r"[^A-Za-z0-9_-]", "_", file.stem)[:32]
    try:
        return states_of_user(sys.platform, os.environ, Path.home()) / "taskmill" / f"{stem}-{digest}"
    except RuntimeError:
        raise SettingsError("This user has no home directory: set TASKMILL_HOME to a directory for the data.") from None


def states_of_user(platform: str, environment: Mapping[str, str], home: Path) -> Path:
    """Where programs keep what they must not lose, by the custom of the platform (`sys.platform`)."""
    if platform == "darwin":
        return home / "Library" / "Application Support"
    if platform == "win32":
        return Path(environment.get("LOCALAPPDATA") or home / "AppData" / "Local")
    # XDG base directories: a relative path is to be passed over.
    named = Path(environment.get("XDG_STATE_HOME", ""))
    return named if named.is_absolute() else home / ".local" / "state"


def _file_of(target: str) -> Path:
    place, is_module = place_of(target)
    if not is_module:
        return Path(place).resolve()
    top, _, below = place.partition(".")
    found = importlib.util.find_spec(top)
    folders = found.submodule_search_locations if found is not None else None
    return Path(next(iter(folders or ()), top)).resolve() / below
