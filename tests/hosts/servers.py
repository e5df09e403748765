"""The servers that the hosts are given: in which file each is, and by which words Taskmill serves it."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SERVERS", "HostServer"]

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class HostServer:
    """A server with the tools that the scenarios take."""

    file: Path
    is_foreign: bool = False
    """Whether it knows nothing of Taskmill and is a program of its own, which stands behind Taskmill."""

    @property
    def command(self) -> list[str]:
        """What starts it without Taskmill, if it is foreign."""
        return [sys.executable, str(self.file)]

    @property
    def target(self) -> list[str]:
        """The words with which a command line of Taskmill's ends that serves it."""
        return ["--", *self.command] if self.is_foreign else [str(self.file)]


SERVERS: Mapping[str, HostServer] = {
    "taskmill": HostServer(_HERE / "server.py"),
    "fastmcp": HostServer(_HERE / "fastmcp_server.py"),
    "foreign": HostServer(_HERE / "foreign_server.py", is_foreign=True),
}
"""By the name that `scripts/hosts` takes: who has made it."""
