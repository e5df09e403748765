"""The server as `taskmill install` gives it to a host, from an installation of Taskmill whose command records messages.

The host's file is what the host's own command and Taskmill's have written; no one changes it afterwards.
"""

import asyncio
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.hosts.launchers import INSTALL_NAMES, NAME
from tests.hosts.servers import HostServer
from tests.support.processes import taskmill

__all__ = ["ADDED_ENTRIES", "AddedEntry", "InstalledTaskmill", "recording"]


@dataclass(frozen=True)
class AddedEntry:
    """How a host's own command writes an entry."""

    words: tuple[str, ...]
    """What stands between the host's program and the server's command."""
    file: str
    """Where it is written, below the home folder."""
    pattern: str
    """Finds the entry in the file, all of it."""

    def written_in(self, home: Path) -> str:
        """The entry as it is written now."""
        text = (home / self.file).read_text()
        found = re.search(self.pattern, text, re.DOTALL)
        assert found is not None, f"{self.file} has no entry: {text}"
        return found[0]


ADDED_ENTRIES: Mapping[str, AddedEntry] = {
    "claude": AddedEntry(("mcp", "add", NAME, "--"), ".claude/.claude.json", rf'\n( *)"{NAME}": {{.*?\n\1}}'),
    "codex": AddedEntry(
        ("mcp", "add", NAME, "--"),
        ".codex/config.toml",
        rf"\[mcp_servers\.{NAME}].*?(?=\n\[(?!mcp_servers\.{NAME})|\Z)",
    ),
}
"""The hosts whose own command gives them a server, before Taskmill takes the entry over."""


def recording(wire: Path) -> list[str]:
    """The words before a stdio server's command that keep what is sent in a file."""
    return [sys.executable, str(Path(__file__).with_name("recording_pipe.py")), str(wire)]


class InstalledTaskmill:
    """What a host's user has: Taskmill, and a folder `work` with the server's file. Messages are kept in `wire`."""

    def __init__(self, host: str, server: HostServer, work: Path, env: Mapping[str, str], wire: Path) -> None:
        self._host = host
        shutil.copy(server.file, work / "server.py")
        self._server = replace(server, file=Path("server.py"))
        self._work, self._env, self._wire = work, env, wire
        self._folder = work.parent

    async def install(self) -> None:
        """Run `taskmill install HOST TARGET` as its user would."""
        await self._taskmill("install", INSTALL_NAMES[self._host], "--name", NAME, "--yes", *self._server.target)

    async def add_and_wrap(self, program: Sequence[str]) -> str:
        """Have the host add the server by its own command, then put it behind Taskmill; the entry as it was before."""
        added = ADDED_ENTRIES[self._host]
        command = replace(self._server, file=self._work / "server.py").command
        await self._run([*program, *added.words, *command])
        before = added.written_in(self._home)
        await self._taskmill("install", INSTALL_NAMES[self._host], "--wrap", NAME, "--yes")
        return before

    async def unwrap(self) -> str:
        """Give the host's entry back; how it is written then."""
        await self._taskmill("install", INSTALL_NAMES[self._host], "--unwrap", NAME, "--yes")
        return ADDED_ENTRIES[self._host].written_in(self._home)

    @property
    def _home(self) -> Path:
        return Path(self._env["HOME"])

    async def _taskmill(self, *words: str) -> None:
        python = await asyncio.to_thread(_installation, self._folder / "taskmill", self._wire)
        await self._run([str(python), "-m", "taskmill", *words])

    async def _run(self, words: Sequence[str]) -> None:
        done = await asyncio.to_thread(
            subprocess.run, words, cwd=self._work, env=self._env, capture_output=True, text=True, check=False
        )
        with (self._folder / "install.txt").open("a") as log:
            log.write(f"$ {shlex.join(words)}\n{done.stdout}{done.stderr}")
        if done.returncode:
            raise AssertionError(f"{shlex.join(words)} ended with {done.returncode}: {done.stderr}")


def _installation(folder: Path, wire: Path) -> Path:
    """An environment with Taskmill, as the one that runs this, but for its command; the Python in it."""
    python = folder / "bin" / "python"
    if python.exists():
        return python
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    packages = Path(shutil.__file__).parent.name  # python3.11
    site = folder / "lib" / packages / "site-packages"
    borrowed = next(path for path in sys.path if path.endswith("site-packages"))
    # `addsitedir`, because it reads the .pth file of a checkout as well.
    (site / "borrowed.pth").write_text(f"import site; site.addsitedir({borrowed!r})\n")
    command = folder / "bin" / "taskmill"
    command.write_text(f'#!/bin/sh\nexec {shlex.join([*recording(wire), taskmill()])} "$@"\n')
    command.chmod(0o755)
    return python
