"""The server as `taskmill install` gives it to a host, from an installation of Taskmill whose command records messages.

The host's file is what the command has written; no one changes it afterwards.
"""

import asyncio
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.processes import taskmill

__all__ = ["SERVER", "install_server", "recording"]

SERVER = Path(__file__).with_name("server.py")


def recording(wire: Path) -> list[str]:
    """The words before a stdio server's command that keep what is sent in a file."""
    return [sys.executable, str(Path(__file__).with_name("recording_pipe.py")), str(wire)]


async def install_server(host: str, file: Path, work: Path, env: Mapping[str, str], wire: Path) -> None:
    """Run `taskmill install HOST server.py` in the folder `work` as its user would; messages will be kept in `wire`."""
    folder = work.parent
    shutil.copy(file, work / "server.py")
    python = await asyncio.to_thread(_installation, folder / "taskmill", wire)
    words = [str(python), "-m", "taskmill", "install", host, "server.py", "--yes"]
    done = await asyncio.to_thread(
        subprocess.run, words, cwd=work, env=env, capture_output=True, text=True, check=False
    )
    (folder / "install.txt").write_text(done.stdout + done.stderr)
    if done.returncode:
        raise AssertionError(f"taskmill install {host} ended with {done.returncode}: {done.stderr}")


def _installation(folder: Path, wire: Path) -> Path:
    """An environment with Taskmill, as the one that runs this, but for its command; the Python in it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    packages = Path(shutil.__file__).parent.name  # python3.11
    site = folder / "lib" / packages / "site-packages"
    borrowed = next(path for path in sys.path if path.endswith("site-packages"))
    # `addsitedir`, because it reads the .pth file of a checkout as well.
    (site / "borrowed.pth").write_text(f"import site; site.addsitedir({borrowed!r})\n")
    command = folder / "bin" / "taskmill"
    command.write_text(f'#!/bin/sh\nexec {shlex.join([*recording(wire), taskmill()])} "$@"\n')
    command.chmod(0o755)
    return folder / "bin" / "python"
