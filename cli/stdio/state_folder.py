"""The data directory of a server that a host starts: one for each user and server file.

Hosts start servers in any working directory, so nothing here depends on it. Imports nothing slow.
"""

import hashlib
import os
import sys
from collections.abc import Mapping

__all__ = ["place_of_remote", "state_folder", "user_state_folder"]


def place_of_remote(target: str) -> str:
    """Where a server is that is no author's file, as `state_folder` takes it: a command may have relative paths."""
    from urllib.parse import quote  # a server's file needs none of it

    if target.endswith(".json"):
        return os.path.realpath(target)
    return ("" if target.startswith("http") else os.getcwd()) + f"/{quote(target, safe='')}"


def state_folder(file: str) -> str | None:
    """The data directory of a server file, the same for each spelling of its path. The caller makes it.

    None = this user has no home directory.
    """
    file = os.path.realpath(file)
    stem = os.path.splitext(os.path.basename(file))[0]
    safe = "".join(letter if (letter.isascii() and letter.isalnum()) or letter in "_-" else "_" for letter in stem)
    digest = hashlib.sha256(os.fsencode(file)).hexdigest()[:12]
    home = os.path.expanduser("~")
    parent = user_state_folder(sys.platform, os.environ, home)
    return os.path.join(parent, "taskmill", f"{safe[:32]}-{digest}") if os.path.isabs(home) else None


def user_state_folder(platform: str, environment: Mapping[str, str], home: str) -> str:
    """The directory for programs' lasting data, by the convention of the platform (`sys.platform`)."""
    if platform == "darwin":
        return os.path.join(home, "Library", "Application Support")
    if platform == "win32":
        return environment.get("LOCALAPPDATA") or os.path.join(home, "AppData", "Local")
    # XDG base directories: a relative path is ignored.
    configured = environment.get("XDG_STATE_HOME", "")
    return configured if os.path.isabs(configured) else os.path.join(home, ".local", "state")
