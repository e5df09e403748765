"""Which hosts are run, in exact versions, and how each is installed: npm packages and one Python environment.

Each npm package has a folder of its own below `.hosts/`; what is for Python has an environment beside ours, from hashed
constraints. No install script runs: nothing that one would download is needed.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["HOME", "PACKAGES", "ROOT", "CannotInstall", "Package", "install", "node", "version_in"]

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".hosts"


class CannotInstall(Exception):
    """A host cannot be had on this machine; the message says why."""


@dataclass(frozen=True)
class Package:
    """A host as its registry has it."""

    name: str
    version: str
    program: str
    """The file to start, below the folder of the package; for Python below this one."""
    is_python: bool = False
    is_script: bool = True
    """JavaScript that Node runs; else a program of its own."""
    also: tuple[str, ...] = ()
    """What the package leaves to its install script: the npm packages with the program, `name@version`."""


_CLAUDE, _CODEX, _OPENCODE, _COPILOT = "2.1.332", "0.171.0", "1.18.33", "1.0.102"
PACKAGES = {
    "claude": Package(
        "@anthropic-ai/claude-code", _CLAUDE, "../claude-code-linux-x64/claude", is_script=False,
        also=(f"@anthropic-ai/claude-code-linux-x64@{_CLAUDE}",),
    ),
    "codex": Package("@openai/codex", _CODEX, "bin/codex.js"),
    "gemini": Package("@google/gemini-cli", "0.61.0", "bundle/gemini.js"),
    "qwen": Package("@qwen-code/qwen-code", "0.24.4", "cli-entry.js"),
    "opencode": Package(
        "opencode-ai", _OPENCODE, "../opencode-linux-x64/bin/opencode", is_script=False,
        also=(f"opencode-linux-x64@{_OPENCODE}",),
    ),
    "copilot": Package("@github/copilot", _COPILOT, "npm-loader.js"),
    "inspector": Package("@modelcontextprotocol/inspector", "2.12.0", ""),
    "inspector-page": Package("@modelcontextprotocol/inspector-client", "1.0.3", "dist/index.html"),
    "openai-agents": Package("openai-agents", "0.24.0", "openai_agents_program.py", is_python=True),
    "playwright": Package("playwright", "1.65.2", "browser/driver.py", is_python=True),
}  # fmt: skip
"""By the name of the host, where it is one."""


def node() -> str:
    """A Node that runs the hosts: the pinned one that the other clients use.

    Raises:
        CannotInstall: there is none.
    """
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import node_home

        return str(node_home.install())
    except node_home.CannotRun as exc:
        raise CannotInstall(str(exc)) from exc
    finally:
        sys.path.pop(0)


def install(host: str) -> list[str]:
    """Install a host, if it is not there; the words that start it.

    Raises:
        CannotInstall: its registry or this machine does not have what it takes.
    """
    package = PACKAGES[host]
    return _install_python(package) if package.is_python else _install_npm(HOME / host, package)


def _install_npm(folder: Path, package: Package) -> list[str]:
    installed = folder / "node_modules" / package.name
    if version_in(installed) != package.version:
        npm = shutil.which("npm")
        if npm is None:
            raise CannotInstall("npm is not on PATH. Install Node.js, which brings it.")
        folder.mkdir(parents=True, exist_ok=True)
        quiet = ["--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        wanted = [f"{package.name}@{package.version}", *package.also]
        _run([npm, "install", "--prefix", str(folder), *quiet, *wanted])
    program = str(installed / (package.program or _bin_of(installed)))
    return [node(), program] if package.is_script else [program]


def _install_python(package: Package) -> list[str]:
    folder = f".venv-{package.name}"
    _run([str(ROOT / "scripts" / "aside"), folder, f"constraints/{package.name}.txt"])
    return [str(ROOT / folder / "bin" / "python"), str(Path(__file__).parent / package.program)]


def version_in(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / "package.json").read_text())["version"])
    except FileNotFoundError:
        return None


def _bin_of(folder: Path) -> str:
    named = json.loads((folder / "package.json").read_text())["bin"]
    return str(named if isinstance(named, str) else next(iter(named.values())))


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise CannotInstall(f"{' '.join(command[:4])} ... failed: {(done.stderr or done.stdout).strip()[-400:]}")
