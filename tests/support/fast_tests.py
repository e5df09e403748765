"""`scripts/test --fast`: the tests that matter while one works, in about three minutes on two cores.

Chosen by what changed since `main` (the working tree and new files included), or by room: `scripts/test --fast store`.
A room that changed has all of its tests but the slow ones; a room that is built on it has its core. The test files that
import a changed module are added, if they are few. The rest is left to `scripts/test`.
"""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

__all__ = ["Choice", "choose", "main"]

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("engine", "store", "workers", "server", "adapters", "cli", "testing")
LONG = ("behaviour", "bench", "chaos", "clients", "conformance", "fuzz", "model", "promises", "stateful")
"""Folders of tests that are left out, but for a file that changed itself."""
CORE = {
    "store": ("claim", "create", "finish", "release", "cancel", "reconcile"),
    "workers": ("starting", "retries", "failures", "cancelling", "questions"),
    "server": ("tasks_2025", "tasks_2026", "calls_without_tasks", "sessions"),
    "adapters": ("fastmcp_clients",),
    "cli": ("arguments", "loading", "run"),
    "testing": ("bed",),
}
"""Of a room's test files, those that a change in a room below it runs: `tests/<room>/test_<name>.py`."""
FEW = 6
"""A module that more test files import than this is left to the cores."""
RULES = "tests/test_rooms.py"
PARTS = {
    "docs": ("tests/docs/test_docs.py", "tests/docs/test_docs_examples.py"),
    "examples": ("tests/docs/test_examples.py",),
    "scripts": ("tests/test_packaging.py",),
    "pyproject.toml": ("tests/test_packaging.py",),
    "docker-compose.yml": ("tests/test_compose.py",),
    "Dockerfile": ("tests/test_compose.py",),
}
"""What else can change, and the tests that it runs."""


@dataclass
class Choice:
    """What is run, each path with its reason, and what is not."""

    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, path: str, reason: str) -> None:
        """The first reason stays; a file in a folder that is chosen is chosen already."""
        if (ROOT / path).exists() and path.rpartition("/")[0] not in self.reasons:
            self.reasons.setdefault(path, reason)

    def paths(self) -> list[str]:
        """What pytest is given, no file twice."""
        return [path for path in self.reasons if path.rpartition("/")[0] not in self.reasons]

    def left_out(self) -> list[str]:
        """Folders of tests of which nothing runs."""
        chosen = {path.split("/")[1] for path in self.reasons}
        return [name for name in sorted((*ROOMS, *LONG)) if name not in chosen and (ROOT / "tests" / name).is_dir()]


def choose(changed: Iterable[str], rooms: Iterable[str] = ()) -> Choice:
    """The tests for these changed files (paths from the root) and rooms."""
    choice, changed = Choice(), sorted(changed)
    choice.add(RULES, "the rules between the rooms, always")
    touched = {path.split("/")[0] for path in changed} & {*ROOMS}
    for room in sorted({*touched, *rooms}, key=ROOMS.index):
        choice.add(f"tests/{room}", f"{room}/ changed" if room in touched else "asked for")
    for path in changed:
        add_for_helper(choice, path)
    for room in sorted(touched, key=ROOMS.index):
        for above in rooms_above(room):
            add_core(choice, above, f"the core of {above}/, which is built on {room}/")
    for path in changed:
        add_for_file(choice, path)
    return choice


def add_core(choice: Choice, room: str, reason: str) -> None:
    for name in CORE.get(room, ()):
        choice.add(f"tests/{room}/test_{name}.py", reason)


def add_for_helper(choice: Choice, path: str) -> None:
    """What the tests of a room share runs all of them; what all tests share runs the cores."""
    folders = path.split("/")[:-1]
    if folders[:1] != ["tests"] or is_test(path) or not path.endswith(".py"):
        return
    if folders in (["tests"], ["tests", "support"]):
        for room in CORE:
            add_core(choice, room, f"{path} changed")
    elif folders[1] in ROOMS:
        choice.add(f"tests/{folders[1]}", f"{path} changed")


def is_test(path: str) -> bool:
    return path.startswith("tests/") and path.rpartition("/")[2].startswith("test_")


def add_for_file(choice: Choice, path: str) -> None:
    """What one changed file asks for beside its room."""
    for part, tests in PARTS.items():
        if path == part or path.startswith(f"{part}/") or (part == "docs" and path.endswith(".md")):
            for test in tests:
                choice.add(test, f"{path} changed")
    if is_test(path):
        choice.add(path, "it changed")
    elif path.endswith(".py"):
        found = list(importers(path))
        for test in found if len(found) <= FEW else ():
            choice.add(test, f"it imports {path}")


def importers(path: str) -> Iterator[str]:
    """Test files, outside the long folders, that import the module in a file."""
    room = path.split("/")[0]
    dotted = path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    wanted = f"taskmill.{dotted}" if room in ROOMS else dotted
    for test in test_files():
        if test.split("/")[1] not in LONG and wanted in imported_by(test):
            yield test


@cache
def test_files() -> list[str]:
    """Every file of tests, by its path from the root."""
    found = (ROOT / "tests").rglob("test_*.py")
    return sorted(str(path.relative_to(ROOT)) for path in found if "node_modules" not in path.parts)


@cache
def imported_by(path: str) -> frozenset[str]:
    """Modules that a file imports, and names that it takes from them, dotted."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def rooms_above(room: str) -> list[str]:
    """Rooms that import this one, by the imports in their source."""
    return [above for above in ROOMS if above != room and room in rooms_under(above)]


@cache
def rooms_under(room: str) -> frozenset[str]:
    paths = (str(path.relative_to(ROOT)) for path in (ROOT / room).rglob("*.py"))
    found = {name for path in paths for name in imported_by(path)}
    return frozenset(parts[1] for name in found if (parts := name.split("."))[0] == "taskmill" and len(parts) > 1)


def changed_files() -> set[str]:
    """What differs from where this branch left `main`, or without that from the last commit, and new files."""
    base = git("merge-base", "HEAD", "main") or ["HEAD"]
    return {*git("diff", "--name-only", base[0]), *git("ls-files", "--others", "--exclude-standard")}


def git(*words: str) -> list[str]:
    """The lines of a git command; none where it fails."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.splitlines() if done.returncode == 0 else []


def main(words: list[str]) -> int:
    """`[ROOM...] [pytest's options]`: print the choice and run it."""
    rooms = [word for word in words if word in ROOMS]
    choice = choose([] if rooms else changed_files(), rooms)
    for path in choice.paths():
        print(f"  {path}: {choice.reasons[path]}")
    print("left out: tests marked slow; nothing of tests/ in", ", ".join(choice.left_out()), flush=True)
    options = [word for word in words if word not in ROOMS]
    command = ["-m", "pytest", "-q", "-m", "not slow", "--numprocesses=3", "--dist=worksteal", "--durations=10"]
    return subprocess.run([sys.executable, *command, *options, *choice.paths()], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
