"""A path to the embedded Redis's socket that every client can use, wherever its data directory is.

The socket itself always lies in the data directory; nothing here creates or opens it.
"""

import hashlib
import os
import re
import tempfile
from pathlib import Path

from taskmill.engine.errors import SettingsError
from taskmill.store.embedded.supervisor import SOCKET

__all__ = ["socket_path"]

# A socket's address holds 108 bytes on Linux and 104 on macOS, the closing NUL included.
_LONGEST = 100
# redis-py unquotes a URL's path and arq does not, so only what needs no quoting means the same to both.
_PLAIN = re.compile(r"/[A-Za-z0-9/._~-]+\Z")


def socket_path(directory: Path) -> str:
    """The socket in `directory` (absolute), or the same socket through a short symbolic link to the directory.

    The link's name follows from the directory, so a URL stays good when the link was swept away and made again.

    Raises:
        SettingsError: the path is too long or unusual, and no temporary directory can hold a link.
    """
    direct = str(directory / SOCKET)
    if _fits(direct):
        return direct
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    for parent in _temporary_directories():
        link = f"{parent}/taskmill-{os.geteuid()}-{digest}"
        through = f"{link}/{SOCKET}"
        if _fits(through) and _link_leads_to(link, directory):
            return through
    raise SettingsError(
        f"The path {direct} is longer than a socket's may be ({_LONGEST} bytes) or has unusual characters, and no "
        f"temporary directory can hold a short link to it. Choose another data directory with TASKMILL_HOME."
    )


def _fits(path: str) -> bool:
    return len(path) <= _LONGEST and _PLAIN.match(path) is not None


def _temporary_directories() -> list[str]:
    try:
        return [tempfile.gettempdir(), "/tmp", "/var/tmp"]  # noqa: S108 - whose link it is gets checked
    except FileNotFoundError:
        return []


def _link_leads_to(link: str, directory: Path) -> bool:
    try:
        os.symlink(directory, link)
    except FileExistsError:
        pass
    except OSError:
        return False
    try:
        # Every user may write to a temporary directory: a link that another user planted would give them our tasks.
        return os.lstat(link).st_uid == os.geteuid() and os.readlink(link) == str(directory)
    except OSError:
        return False
