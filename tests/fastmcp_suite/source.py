"""What is needed to run FastMCP's tests: their source and an environment. Both are made once."""

import re
import subprocess
import sys
import tarfile
from pathlib import Path

__all__ = ["ROOT", "CannotRun", "environment", "tests_of_fastmcp"]

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".fastmcp-suite"
PINNED = ROOT / "constraints" / "fastmcp-source.txt"
ENVIRONMENT = ".venv-fastmcp-suite"


class CannotRun(Exception):
    """The tests or what they need cannot be had on this machine."""


def environment() -> Path:
    """The interpreter of an environment that has FastMCP, its tasks on docket, and Taskmill from this checkout.

    Raises:
        CannotRun: A package cannot be installed.
    """
    _run("scripts/aside", ENVIRONMENT, f"constraints/{ENVIRONMENT.removeprefix('.venv-')}.txt")
    python = ROOT / ENVIRONMENT / "bin" / "python"
    if subprocess.run([python, "-c", "import taskmill"], check=False, stderr=subprocess.DEVNULL).returncode:
        pip = (sys.executable, "-m", "pip", "--python", str(python), "install", "-qq", "--disable-pip-version-check")
        _run(*pip, "--no-deps", "--no-build-isolation", "--editable", ".")
    return python


def tests_of_fastmcp() -> Path:
    """The folder with `tests/` and `pyproject.toml` of the pinned FastMCP.

    Raises:
        CannotRun: The source distribution cannot be fetched.
    """
    version = _pinned_version()
    folder = HOME / f"fastmcp-{version}"
    if not (folder / "complete").exists():
        HOME.mkdir(exist_ok=True)
        pip = (sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps")
        _run(*pip, "--no-binary", "fastmcp", "--require-hashes", "-r", str(PINNED), "--dest", str(HOME))
        archive = HOME / f"fastmcp-{version}.tar.gz"
        with tarfile.open(archive) as source:
            wanted = (f"fastmcp-{version}/tests/", f"fastmcp-{version}/pyproject.toml")
            members = [one for one in source.getmembers() if one.name.startswith(wanted)]
            source.extractall(HOME, members, filter="data")
        archive.unlink()
        (folder / "complete").touch()
    return folder


def _pinned_version() -> str:
    found = re.search(r"^fastmcp==(\S+)", PINNED.read_text(), re.MULTILINE)
    assert found, f"{PINNED} names no version"
    return found[1]


def _run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, check=False, stdout=sys.stderr)
    if done.returncode:
        raise CannotRun(f"{' '.join(command[:4])} ... failed; the reason is above.")
