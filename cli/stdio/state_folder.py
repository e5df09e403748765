"""The data directory of a server that a host starts: one for each user and server file.

Hosts start servers in any working directory, so nothing here depends on it.
"""

import hashlib
import importlib.util
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from taskmill.cli.loading import file_or_module
from taskmill.engine.errors import SettingsError

__all__ = ["server_path", "state_folder", "user_state_folder"]


def state_folder(target: str) -> Path:
    """The data directory of the server file of `target`, the same for each spelling of the path. The caller makes it.

    Raises:
        SettingsError: this user has no home directory.
    """
    file = server_path(target)
    digest = hashlib.sha256(os.fsencode(file)).hexdigest()[:12]
    stem = re.sub(r"[^A-Za-z0-9_-]", "_", file.stem)[:32]
    try:
        return user_state_folder(sys.platform, os.environ, Path.home()) / "taskmill" / f"{stem}-{digest}"
    except RuntimeError:
        raise SettingsError("This user has no home directory: set TASKMILL_HOME to a directory for the data.") from None


def user_state_folder(platform: str, environment: Mapping[str, str], home: Path) -> Path:
    """The directory for programs' lasting data, by the convention of the platform (`sys.platform`)."""
    if platform == "darwin":
        return home / "Library" / "Application Support"
    if platform == "win32":
        return Path(environment.get("LOCALAPPDATA") or home / "AppData" / "Local")
    # XDG base directories: a relative path is ignored.
    configured = Path(environment.get("XDG_STATE_HOME", ""))
    return configured if configured.is_absolute() else home / ".local" / "state"


def server_path(target: str) -> Path:
    """Where the file or module of `target` is: the same for each spelling of the path."""
    location, is_module = file_or_module(target)
    if not is_module:
        return Path(location).resolve()
    top, _, rest = location.partition(".")
    spec = importlib.util.find_spec(top)
    folders = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(folders or ()), top)).resolve() / rest
