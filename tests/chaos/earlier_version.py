"""An earlier version of Taskmill, taken from the history of this checkout and made runnable beside it."""

import io
import re
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement

from taskmill.store.connection.layout import LAYOUT

__all__ = ["CannotRun", "Version", "earlier_version"]

ROOT = Path(__file__).resolve().parents[2]
_PINNED = re.compile(r"^(\w[^\\\n]*==[^\\\n]*)", re.MULTILINE)
_LAYOUT = re.compile(r"^LAYOUT = (\d+)$", re.MULTILINE)
_LAYOUT_FILE = "store/connection/layout.py"
_RUNTIME = "constraints/runtime.txt"


class CannotRun(Exception):
    """The earlier version cannot be run here; the text says why, and what to do."""


@dataclass(frozen=True)
class Version:
    """One of the two."""

    name: str
    python: str = sys.executable
    paths: tuple[str, ...] = ()
    """Before the checkout in PYTHONPATH."""


def earlier_version(revision: str, folder: Path, *, may_install: bool) -> Version:
    """The version of a revision, below `folder`.

    `may_install`: if its dependencies are others than those that are here, make an environment of its own.

    Raises:
        CannotRun: it is not there, it keeps tasks in another layout, or its dependencies are others.
    """
    name = _git("rev-parse", "--short", f"{revision}^{{commit}}").decode().strip()
    tree = folder / "tree"
    packages = tomllib.loads(_file(name, "pyproject.toml"))["tool"]["setuptools"]["package-dir"]
    _check_layout(name)
    archive = _git("archive", "--format=tar", name, *packages.values())
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(tree, filter="data")
    found = folder / "path" / "taskmill"
    found.mkdir(parents=True)
    for package, source in packages.items():
        if "." in package:
            (found / package.partition(".")[2]).symlink_to(tree / source)
    for file in (tree / packages["taskmill"]).iterdir():
        (found / file.name).symlink_to(file)
    others = sorted(_other_dependencies(_file(name, _RUNTIME)))
    if others and not may_install:
        raise CannotRun(f"{name} has other dependencies ({', '.join(others)}): scripts/two-versions installs them")
    python = _environment(name, folder) if others else sys.executable
    return Version(name, python, (str(found.parent),))


def _check_layout(name: str) -> None:
    found = _LAYOUT.search(_file(name, _LAYOUT_FILE))
    if found is None or int(found[1]) != LAYOUT:
        raise CannotRun(
            f"{name} keeps tasks in layout {found[1] if found else 'unknown'}, this version in {LAYOUT}: they refuse "
            "to run side by side, and docs/deployment.md says how to upgrade"
        )


def _other_dependencies(constraints: str) -> Iterator[str]:
    """What it runs with on this platform and is here in another version."""
    for line in _PINNED.findall(constraints):
        needed = Requirement(line)
        if needed.marker is None or needed.marker.evaluate():
            try:
                is_here = version(needed.name) in needed.specifier
            except PackageNotFoundError:
                is_here = False
            if not is_here:
                yield f"{needed.name} {needed.specifier}"


def _environment(name: str, folder: Path) -> str:
    """An environment with the dependencies of the earlier version; its interpreter."""
    constraints, python = folder / "runtime.txt", folder / "venv" / "bin" / "python"
    constraints.write_text(_file(name, _RUNTIME))
    install = ["-m", "pip", "--python", str(python), "install", "-qq", "--no-deps", "--require-hashes"]
    for words in (["-m", "venv", "--without-pip", str(folder / "venv")], [*install, "-r", str(constraints)]):
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise CannotRun(f"the dependencies of {name} could not be installed: {done.stderr.strip()[-300:]}")
    return str(python)


def _file(revision: str, path: str) -> str:
    return _git("show", f"{revision}:{path}").decode()


def _git(*words: str) -> bytes:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, check=False)
    except FileNotFoundError:
        raise CannotRun("there is no git here, which has the earlier version") from None
    if done.returncode == 0:
        return done.stdout
    about = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--is-shallow-repository"], capture_output=True, check=False
    )
    advice = "; this clone is shallow: git fetch --deepen 10" if about.stdout.strip() == b"true" else ""
    lines = done.stderr.decode(errors="replace").strip().splitlines() or ["unknown"]
    raise CannotRun(f"git {' '.join(words[:2])}: {lines[0]}{advice}")
