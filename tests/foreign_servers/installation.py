"""Which servers of other people are run, in exact versions, and how each is installed.

The npm packages are in `.foreign-servers/`, what is for Python in an environment beside ours, from hashed constraints.
"""

import subprocess
import sys
from pathlib import Path

__all__ = ["NPM", "ROOT", "CannotInstall", "npm_server", "python_server"]

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".foreign-servers"
ENVIRONMENT = ".venv-foreign-servers"
_SCOPE = "@modelcontextprotocol"
NPM = dict.fromkeys(("server-everything", "server-filesystem", "server-memory"), "2026.8.31")


class CannotInstall(Exception):
    """A server cannot be had on this machine; the message says why."""


def npm_server(name: str) -> list[str]:
    """The words that start a server of npm, installed.

    Raises:
        CannotInstall: npm, Node or the package is missing.
    """
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import node_home

        node = str(node_home.install())
        node_home.install_into(HOME, [(f"{_SCOPE}/{each}", version) for each, version in NPM.items()])
    except node_home.CannotRun as exc:
        raise CannotInstall(str(exc)) from exc
    finally:
        sys.path.pop(0)
    return [node, str(HOME / "node_modules" / _SCOPE / name / "dist" / "index.js")]


def python_server(name: str) -> list[str]:
    """The words that start a server of PyPI, installed.

    Raises:
        CannotInstall: the packages cannot be had.
    """
    words = [str(ROOT / "scripts" / "aside"), ENVIRONMENT, "constraints/foreign-servers.txt"]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode:
        raise CannotInstall(f"{name} could not be installed: {(done.stderr or done.stdout).strip()[-400:]}")
    return [str(ROOT / ENVIRONMENT / "bin" / name)]
