"""The rooms, which of them may import which, and what each module of the tree imports: read from the source with `ast`.

Nothing here imports Taskmill. What must hold stands in tests/test_rooms.py.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = "taskmill"


@dataclass(frozen=True)
class Room:
    """What a room may import: rooms by name, and the outside either by a closed list or minus a ban."""

    rooms: frozenset[str]
    only: frozenset[str] | None = None
    banned: frozenset[str] = field(default=frozenset())


WEB = frozenset({"starlette", "uvicorn", "sse_starlette"})
TERMINAL = frozenset({"typer", "click", "rich"})
FRAMEWORKS = frozenset({"fastmcp"})
ROOMS = {
    "engine": Room(frozenset({"engine"}), only=frozenset({"pydantic", "anyio", "cronsim"})),
    "store": Room(frozenset({"engine", "store"}), banned=WEB | TERMINAL | FRAMEWORKS | {"mcp", "mcp_types"}),
    "workers": Room(frozenset({"engine", "store", "workers"}), banned=WEB | TERMINAL | FRAMEWORKS | {"redis"}),
    "server": Room(frozenset({"engine", "store", "server"}), banned=TERMINAL | FRAMEWORKS | {"redis", "arq"}),
    "adapters": Room(
        frozenset({"engine", "store", "workers", "server", "adapters"}), banned=TERMINAL | {"redis", "arq"}
    ),
    "console": Room(
        frozenset({"engine", "store", "server", "console"}), banned=TERMINAL | FRAMEWORKS | {"redis", "arq"}
    ),
    "cli": Room(frozenset({"engine", "store", "workers", "server", "adapters", "console", "cli"}), banned=FRAMEWORKS),
    "testing": Room(
        frozenset({"engine", "store", "workers", "server", "adapters", "console", "cli", "testing"}), banned=FRAMEWORKS
    ),
}
# What each sub-room imports of its own room, one row each: another sub-room (`formats`) or a module that stands beside
# the sub-rooms and is imported by them (`settings.py`). `.` stands for the modules beside the sub-rooms that have no
# row of their own: they put the room together. The rows have a direction: no way leads back to where it began.
# testing/ is flat and has no rows.
SUB_ROOMS: dict[str, dict[str, str]] = {
    "engine": {
        "errors.py": "",
        "timing": "errors.py",
        ".": "errors.py timing",
    },
    "store": {
        "formats": "",
        "setting_names.py": "",
        "shards.py": "formats setting_names.py",
        "settings.py": "formats setting_names.py shards.py",
        "seal_keys.py": "formats setting_names.py settings.py",
        "connection": "formats setting_names.py settings.py seal_keys.py",
        "scripts.py": "formats connection",
        "audit": "formats settings.py connection",
        "artifacts": "formats shards.py settings.py seal_keys.py connection scripts.py",
        "metrics": "formats settings.py connection scripts.py",
        "claims": "formats settings.py seal_keys.py connection scripts.py tasks",
        "embedded": "connection",
        "pubsub": "formats settings.py connection",
        "sessions": "formats settings.py seal_keys.py connection scripts.py pubsub",
        "tasks": (
            "formats shards.py settings.py seal_keys.py connection scripts.py artifacts audit metrics pubsub sessions "
            "webhooks"
        ),
        "webhooks": "formats settings.py seal_keys.py connection scripts.py",
        "sharding": "formats shards.py settings.py connection artifacts metrics pubsub tasks webhooks",
        "audited.py": "settings.py audit tasks",
        ".": "shards.py settings.py connection scripts.py metrics tasks sharding",
    },
    "workers": {
        "settings.py": "",
        "attempts": "",
        "isolation": "settings.py",
        "health.py": "settings.py attempts",
        "services": "settings.py attempts health.py",
        "webhooks": "settings.py services",
        ".": "settings.py attempts isolation health.py services webhooks",
    },
    "server": {
        "changing_file.py": "",
        "auth": "changing_file.py",
        "limits": "changing_file.py",
        "audit": "auth",
        "settings.py": "auth limits",
        "sampling": "settings.py",
        "context": "auth protocol sampling",
        "protocol": "",
        "tool_host.py": "",
        "tools": "settings.py audit auth limits context protocol sampling tool_host.py",
        "http": "auth limits protocol tool_host.py tools",
        "api": "audit auth protocol streams tools http",
        "streams": "protocol tools",
        "sessions": "auth protocol http tools streams",
        "handlers": "auth context protocol tool_host.py tools streams sessions",
        "fast_path": "audit auth context protocol tool_host.py tools http handlers",
        ".": "settings.py audit auth context protocol sampling tool_host.py tools http api sessions handlers fast_path",
    },
    "adapters": {
        "fastmcp": "",
        "remote": "fastmcp",
        ".": "fastmcp remote",
    },
    "cli": {
        "terminal": "",
        "imports.py": "",
        "errors.py": "terminal",
        "server_address.py": "errors.py",
        "loading.py": "",
        "spawned": "",
        "words.py": "errors.py",
        "logs.py": "terminal",
        "options.py": "logs.py",
        "settings.py": "errors.py",
        "start_log.py": "",
        "source.py": "",
        "processes": "errors.py",
        "audit": "terminal errors.py options.py tasks",
        "operations": "terminal errors.py logs.py options.py tasks",
        "client": "terminal imports.py errors.py server_address.py logs.py source.py processes",
        "console": "errors.py settings.py serving options.py logs.py",
        "doctor": "terminal loading.py settings.py source.py",
        "install": "terminal errors.py loading.py logs.py options.py stdio",
        "isolated": "errors.py loading.py logs.py processes",
        "serving": "terminal errors.py loading.py settings.py start_log.py processes",
        "stdio": "terminal errors.py loading.py logs.py settings.py start_log.py processes",
        "tasks": "client terminal errors.py server_address.py logs.py options.py settings.py",
        ".": "terminal errors.py loading.py logs.py options.py settings.py source.py processes client doctor install "
        "serving stdio tasks audit console operations imports.py words.py",
    },
}
# Imports against the direction, "room: importer -> imported", each with what would let it go.
AGAINST_THE_DIRECTION: dict[str, str] = {}


@dataclass(frozen=True)
class Module:
    """One source file: its path from the root, the dotted name it is imported by, its text."""

    path: str
    name: str
    text: str

    @property
    def room(self) -> str:
        return self.path.split("/", 1)[0]

    @property
    def tree(self) -> ast.Module:
        return parse(self.text)


@cache
def parse(text: str) -> ast.Module:
    return ast.parse(text)


def read(path: Path) -> Module:
    """A file of a room under its installed name; a file elsewhere under its path."""
    relative = path.relative_to(ROOT)
    dotted = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
    prefix = f"{PRODUCT}." if relative.parts[0] in ROOMS else ""
    return Module(str(relative), prefix + dotted, path.read_text(encoding="utf-8"))


def modules(*folders: str) -> list[Module]:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [read(path) for path in found if not is_foreign(path)]


def is_foreign(path: Path) -> bool:
    """Environments, caches and build output, which hold other people's files."""
    parts = path.relative_to(ROOT).parts
    return any(part.startswith(".") or part in ("build", "dist", "node_modules") for part in parts)


def imports(module: Module) -> Iterator[tuple[int, str, str | None]]:
    """Every import wherever it stands, `TYPE_CHECKING` blocks included: line, module, and the name taken from it."""
    package = module.name if module.path.endswith("__init__.py") else module.name.rpartition(".")[0]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, None
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
            for alias in node.names:
                yield node.lineno, base, alias.name


def imported_room(base: str, name: str | None) -> str | None:
    """The room an import reaches, None for the outside."""
    parts = [*base.split("."), *([name] if name else [])]
    return parts[1] if parts[0] == PRODUCT and len(parts) > 1 else None


def sub_room_imports(room: str) -> dict[str, dict[str, list[str]]]:
    """Each part of a room (see SUB_ROOMS), the parts of the same room it imports, and where."""
    parts = {module.name: part_of(module) for module in modules(room)}
    found: dict[str, dict[str, list[str]]] = {part: {} for part in parts.values()}
    for module in modules(room):
        for line, base, name in imports(module):
            reached = parts.get(f"{base}.{name}") or parts.get(base)
            if reached and reached != parts[module.name]:
                found[parts[module.name]].setdefault(reached, []).append(f"{module.path}:{line}")
    return found


def part_of(module: Module) -> str:
    """The sub-room of a module, its file name where it has a row of its own, `.` for what puts the room together."""
    room, *folders, name = module.path.split("/")
    if folders:
        return folders[0]
    return name if name in SUB_ROOMS.get(room, {}) else "."


def folders_of_rooms() -> dict[str, list[str]]:
    """Each folder that holds modules, by its path from the root, with their file names."""
    found: dict[str, list[str]] = {}
    for module in modules(*ROOMS):
        folder, _, name = module.path.rpartition("/")
        found.setdefault(folder, []).append(name)
    return found


def fail_on(problems: list[str], advice: str) -> None:
    """Fail with the places, one a line, and what to do about them."""
    if problems:
        pytest.fail("\n".join([f"{len(problems)} place(s):", *problems, advice]), pytrace=False)
