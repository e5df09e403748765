"""The file with the first answers of a server, and all that they depend on: they are used only if nothing differs.

A record is made of a process that has loaded the server. It has every file that the process had loaded, the folders in
which another file could have been found, the interpreter and its settings. What is in the author's file is judged in
`fixed_handshake.py`; this module compares. Imports nothing slow.
"""

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["CLOCK_TICK", "AnswerFile"]

_FORMAT = 2
_MAX_ANSWERS = 16
_MAX_RECORDS = 8
"""Of one server."""
_VARIABLES = ("TASKMILL_", "PYTHON", "FASTMCP_")
_CODE = (".py", ".so", ".pyd")
CLOCK_TICK = 50_000_000
"""Nanoseconds by which the times of files are behind the clock, at most."""

Stamp = list[int]


class AnswerFile:
    """The record of one server, as a command line names it."""

    def __init__(self, folder: str, location: str, name: str) -> None:
        """`folder`: the data directory; `location`: the server's file; `name`: of the object, empty = none is given.

        To be made before anything of the author is loaded: it keeps how the process was started.
        """
        self.location = os.path.realpath(location)
        self._folder = folder
        self.started = time.time_ns()
        """When this process began: what changed later may be another file than it has loaded."""
        self._circumstances: dict[str, Any] = {
            "format": _FORMAT,
            "written": os.path.abspath(location),
            "name": name,
            "python": [sys.version, sys.executable, sys.prefix, str(sys.flags)],
            "path": list(sys.path),
            "variables": _variables_digest(),
        }
        # One for each way to start it: two hosts with other variables must not replace each other's.
        started = hashlib.sha256(json.dumps(self._circumstances, sort_keys=True).encode()).hexdigest()[:12]
        server = hashlib.sha256(os.fsencode(f"{self.location}:{name}")).hexdigest()[:12]
        self._prefix = f"answers-{server}-"
        self._path = os.path.join(folder, f"{self._prefix}{started}.json")

    def read(self) -> dict[str, Any]:
        """The answers by request; empty if there are none, or if anything that they depend on has changed."""
        try:
            with open(self._path, "rb") as file:
                status = os.fstat(file.fileno())
                # Others could have written it: then they could speak for the server.
                if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                    return {}
                record = json.loads(file.read())
            is_valid = (
                record["circumstances"] == self._circumstances
                and all(_stamp(path) == stamp for path, stamp in record["files"].items())
                and all(_stamp(path) == stamp for path, stamp in record["search_path"].items())
                and all(_importable(path) == names for path, names in record["folders"].items())
            )
            answers: dict[str, Any] = record["answers"] if is_valid else {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}  # none, or a broken one: the server answers
        return answers

    def write(self, answers: Mapping[str, Any], loaded: Iterable[str], authored: Iterable[str]) -> bool:
        """Keep the answers of the server that this process has loaded; False if they cannot be kept.

        `loaded`: the files of all modules; `authored`: folders with modules of the author.
        """
        files = {path: _stamp(path) for path in loaded}
        limit = self.started - CLOCK_TICK
        if any(stamp is None or max(stamp[2:]) > limit for stamp in files.values()):
            return False
        folders = {path: _importable(path) for path in authored}
        record = {
            "circumstances": self._circumstances,
            "files": files,
            "search_path": {path: _stamp(path) for path in self._circumstances["path"] if path not in folders},
            "folders": folders,
            "answers": dict(list(answers.items())[-_MAX_ANSWERS:]),
        }
        new = f"{self._path}.{os.getpid()}"
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
                json.dump(record, file)
            os.replace(new, self._path)
            self._remove_oldest()
        except OSError:
            return False
        return True

    def _remove_oldest(self) -> None:
        with os.scandir(self._folder) as entries:
            records = [entry for entry in entries if entry.name.startswith(self._prefix)]
        for entry in sorted(records, key=lambda entry: entry.stat().st_mtime_ns)[:-_MAX_RECORDS]:
            os.unlink(entry.path)

    def remove(self) -> None:
        """Forget the answers."""
        with contextlib.suppress(OSError):
            os.unlink(self._path)


def _variables_digest() -> str:
    """Of settings, some of which are secrets that belong into no file."""
    given = sorted((key, value) for key, value in os.environ.items() if key.startswith(_VARIABLES))
    return hashlib.sha256(json.dumps(given).encode()).hexdigest()


def _stamp(path: str) -> Stamp | None:
    """Size, inode, and times of change (ns) of a file or folder; None = there is none.

    The second time cannot be set back, as `rsync` and `tar` do with the first.
    """
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]


def _importable(folder: str) -> list[str] | None:
    """Names in a folder that an import could find: data that a server writes there is none."""
    try:
        with os.scandir(folder) as entries:
            return sorted(
                entry.name
                for entry in entries
                if entry.name.endswith(_CODE)
                or (entry.name.isidentifier() and entry.name != "__pycache__" and entry.is_dir())
            )
    except OSError:
        return None
