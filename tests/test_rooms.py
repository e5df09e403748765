"""The rules between the rooms, read from the source with `ast`: who may import whom, how long things may grow, what
must not appear. Nothing here imports Taskmill or needs Redis.

A function's length runs from its `def` to its last line without its docstring and decorators. Allow-lists stand at the
top, each entry with its reason, and an entry that is no longer needed fails too.
"""

import ast
import math
import re
import sys
import tomllib
from collections.abc import Iterator
from itertools import takewhile

import pytest

from tests.support.room_imports import (
    AGAINST_THE_DIRECTION,
    PRODUCT,
    ROOMS,
    ROOT,
    SUB_ROOMS,
    fail_on,
    folders_of_rooms,
    imported_room,
    imports,
    is_foreign,
    modules,
    sub_room_imports,
)

MODULE_LINES = 400
MODULE_LINES_AT_MOST = 500
FOLDER_MODULES = 16
FUNCTION_LINES = 40
POLL_SECONDS = 0.1


# Modules between MODULE_LINES and MODULE_LINES_AT_MOST, each with the reason why a cut would read worse.
LONG_MODULES: dict[str, str] = {
    "server/task_server.py": "what an author may write, a method each: a part of it elsewhere would not be found",
}

# Where a handler may swallow `Exception` or more. A handler that ends in a bare `raise` needs no entry.
BROAD_HANDLERS: dict[str, str] = {
    "adapters/remote/sessions.py": "a transport of FastMCP's may raise anything while it connects: it is told in words",
    "cli/loading.py": "a user's module may raise anything; its own traceback is shown, not ours",
    "server/auth/checked_verifier.py": "a verifier may be the author's; its crash is logged and becomes a 503",
    "server/tools/submission.py": "idempotency and concurrency_key may be the author's functions; a crash is logged",
    "server/tools/validation.py": "a resolver is the author's code; its crash counts as the tool's, and is logged",
    "server/sampling/functions.py": "a model's tool is the author's code; its crash is logged, and masked for it",
    "server/sessions/request_runner.py": "the top of a request: what a handler raises is logged, not sent",
    "server/streams/eager.py": "whatever ends a wait is thrown into the work that waits",
    "store/pubsub/event_tail.py": "what one follower raises when it takes an event is raised in its own call",
    "store/seal_keys.py": "the function is the operator's: its failure is told in words, or logged",
    "workers/attempts/endings.py": "retry_on and backoff may be the author's functions; a crash means no retry",
    "workers/attempts/errors.py": "an exception may be the author's class, whose parts fail when they are read",
    "workers/services/background_task.py": "whatever ends a service of a worker is logged, and it starts again",
    "workers/services/scheduler.py": "concurrency_key may be the author's function; a crash is logged, and tried again",
    "workers/isolation/attempt.py": "whatever a tool's call raises here is sent to the tool, in its own process",
    "workers/isolation/messages.py": "an exception's class may be made in any way; where this one cannot, another is",
    "cli/isolated/main.py": "the call step of an isolated tool: whatever it raises is told to the worker",
    "workers/attempts/attempt.py": "the worker's call step: whatever a tool raises is an outcome of the task",
}

# Modules that use private names of libraries: one for each library, where each name stands with what would let it go.
PRIVATE_NAMES: dict[str, str] = {
    "server/protocol/sdk_private.py": "the private names of the mcp SDK",
    "store/connection/redis_private.py": "the private names of redis-py",
    "adapters/fastmcp/fastmcp_private.py": "the private names of FastMCP",
}

# Public in spite of the underscore: the standard library documents them.
DOCUMENTED_PRIVATE = {"os._exit", "sys._current_frames", "asyncio._enter_task", "asyncio._leave_task"}

# Test files where a sleep is the work under test (a tool that blocks), not a wait for something to happen.
SLEEPS_AS_WORK: dict[str, str] = {}

SLEEP = re.compile(r"((time|asyncio|anyio)\.)?sleep")

VAGUE_NAMES = {"utils", "util", "common", "helpers", "helper", "misc"}

# Method names that are Redis commands and nothing else we use.
REDIS_COMMANDS = re.compile(
    r"blpop|brpop|bzpop(min|max)|eval(sha)?|execute_command|p?expire(at)?|p?ttl|p?setex|setnx|mget|mset|pipeline|"
    r"script_load|register_script|scan_iter|h(del|get|getall|incrby|mget|set|setnx)|(l|r)(pop|push)|lrange|"
    r"s(add|rem|members)|x(ack|add|len|range|read|revrange|trim)|z(add|card|popmin|range|rangebyscore|rem|score)"
)


def fail_on_stale(name: str, declared: dict[str, str], used: set[str]) -> None:
    fail_on(sorted(set(declared) - used), f"These entries of {name} are not needed any more: remove them.")


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_rooms_below_it(room: str) -> None:
    """engine <- store <- workers and server, which do not know each other; nothing imports cli."""
    problems = [
        f"{module.path}:{line}: {PRODUCT}.{reached}"
        for module in modules(room)
        for line, base, name in imports(module)
        if (reached := imported_room(base, name)) and reached not in ROOMS[room].rooms
    ]
    fail_on(
        problems,
        f"{room}/ may import {sorted(ROOMS[room].rooms)}. Move what both sides need down to a room they share, or take "
        "it as a Protocol from engine/ and let cli/ pass the part in.",
    )


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_the_libraries_it_is_for(room: str) -> None:
    """engine/ knows pydantic, anyio and one for cron lines; redis stays behind store/, the web behind server/."""
    rule = ROOMS[room]
    problems = []
    for module in modules(room):
        for line, base, _ in imports(module):
            library = base.split(".", 1)[0]
            if library in (PRODUCT, "__future__") or library in sys.stdlib_module_names:
                continue
            if library in rule.banned or (rule.only is not None and library not in rule.only):
                problems.append(f"{module.path}:{line}: {library}")
    allowed = f"only {sorted(rule.only)}" if rule.only is not None else f"anything but {sorted(rule.banned)}"
    fail_on(problems, f"Outside the standard library {room}/ imports {allowed}. Put the code that needs it elsewhere.")


def test_rooms_are_imported_under_the_products_name() -> None:
    """`import server` works in a checkout by accident and nowhere else."""
    problems = [
        f"{module.path}:{line}: {base}"
        for module in modules(*ROOMS, "tests", "examples", "bench")
        for line, base, _ in imports(module)
        if base.split(".", 1)[0] in ROOMS
    ]
    fail_on(problems, f"Write {PRODUCT}.<room> instead.")


def test_no_module_imports_itself_by_a_detour() -> None:
    """No import cycles, neither inside functions nor under TYPE_CHECKING."""
    by_name = {module.name: module for module in modules(*ROOMS)}
    graph: dict[str, set[str]] = {}
    for module in by_name.values():
        reached = {f"{base}.{name}" if f"{base}.{name}" in by_name else base for _, base, name in imports(module)}
        graph[module.name] = {name for name in reached if name in by_name}
    cycle = find_cycle(graph)
    if cycle:
        pytest.fail(
            f"Import cycle: {' -> '.join(cycle)}. Move what they share into a module that both import.", pytrace=False
        )


def find_cycle(graph: dict[str, set[str]]) -> list[str]:
    """One cycle as the way around, first name repeated at the end; [] if there is none."""
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        for reached in sorted(graph[name]):
            if cycle := walk(reached, [*way, name]):
                return cycle
        done.add(name)
        return []

    return next((cycle for name in sorted(graph) if (cycle := walk(name, []))), [])


@pytest.mark.parametrize("room", ROOMS)
def test_a_sub_room_imports_only_what_its_row_names(room: str) -> None:
    """SUB_ROOMS is the whole truth: an import that it lacks fails, and so does an entry that no import needs."""
    rows = {part: set(row.split()) for part, row in SUB_ROOMS.get(room, {}).items()}
    found = sub_room_imports(room)
    problems = [
        f"{room}: {part} imports {reached} ({places[0]})"
        for part, row in found.items()
        for reached, places in row.items()
        if reached not in rows.get(part, set()) and f"{room}: {part} -> {reached}" not in AGAINST_THE_DIRECTION
    ]
    problems += [f"{room}: {part} has no row" for part in sorted(set(found) - set(rows) - {"."})]
    problems += [f"{room}: {part} has a row, and does not exist" for part in sorted(set(rows) - set(found))]
    problems += [
        f"{room}: {part} does not import {reached}: remove it from the row"
        for part in sorted(set(rows) & set(found))
        for reached in sorted(rows[part] - set(found[part]))
    ]
    fail_on(problems, "Move what both need to the lower one, or edit the row in SUB_ROOMS (no way may lead back).")


def test_sub_rooms_have_a_direction() -> None:
    """No sub-room reaches itself by way of others, but for the imports declared with what would let them go."""
    for room, rows in SUB_ROOMS.items():
        graph = {part: set(row.split()) for part, row in rows.items()}
        unknown = {reached for row in graph.values() for reached in row} - set(graph)
        fail_on(sorted(f"{room}: {name}" for name in unknown), "These are named in a row of SUB_ROOMS and have none.")
        if cycle := find_cycle(graph):
            pytest.fail(f"{room}: SUB_ROOMS leads in a circle: {' -> '.join(cycle)}", pytrace=False)
    found = {
        f"{room}: {part} -> {reached}"
        for room in SUB_ROOMS
        for part, row in sub_room_imports(room).items()
        for reached in row
    }
    fail_on_stale("AGAINST_THE_DIRECTION", AGAINST_THE_DIRECTION, found)


def test_private_names_stay_with_their_owners() -> None:
    """A private name is used in the module that defines it, or through `self` in a class that inherits it from ours.

    Those of libraries stand in the modules of PRIVATE_NAMES, so that a new release is checked in one place.
    """
    everywhere = modules(*ROOMS)
    ours = {name for module in everywhere for name in private_definitions(module.tree)}
    found: dict[str, list[str]] = {}
    for module in everywhere:
        own = set(private_definitions(module.tree))
        for line, words in private_uses(module.tree):
            through_self = words.startswith(("self.", "cls.", "super()."))
            if words.rpartition(".")[2] not in (ours if through_self else own):
                found.setdefault(module.path, []).append(f"{module.path}:{line}: {words}")
    problems = [place for path, places in found.items() if path not in PRIVATE_NAMES for place in places]
    fail_on(problems, "Give the owner a public way. A library's private name belongs into a module of PRIVATE_NAMES.")
    fail_on_stale("PRIVATE_NAMES", PRIVATE_NAMES, set(found))


def is_private(name: str) -> bool:
    return name.startswith("_") and name.strip("_") != "" and not name.endswith("__")


def private_definitions(tree: ast.Module) -> Iterator[str]:
    """Private names that a module defines: functions, classes, what is assigned to a name or to an attribute."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() if is_private(node.name):
                yield node.name
            case ast.Name(ctx=ast.Store()) if is_private(node.id):
                yield node.id
            case ast.Attribute(ctx=ast.Store(), value=ast.Name(id="self")) if is_private(node.attr):
                yield node.attr
            case _:
                pass


def private_uses(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Where a module reads or imports a private name of something else, and in which words."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute() if is_private(node.attr) and ast.unparse(node) not in DOCUMENTED_PRIVATE:
                yield node.lineno, ast.unparse(node)
            case ast.ImportFrom():
                path = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
                if any(is_private(part) for part in path):
                    yield node.lineno, f"from {node.module} import {', '.join(alias.name for alias in node.names)}"
            case ast.Call(func=ast.Name(id="getattr" | "setattr"), args=[_, ast.Constant(value=str(name)), *_]):
                if is_private(name):
                    yield node.lineno, f"{ast.unparse(node.args[0])}.{name}"
            case _:
                pass


def test_redis_commands_and_lua_stay_in_store() -> None:
    """No Redis command outside store/, and Lua only in its .lua files, also there."""
    problems = []
    for module in modules(*ROOMS):
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "redis.call(" in node.value:
                problems.append(f"{module.path}:{node.lineno}: Lua in a string")
            elif module.room != "store" and (command := redis_command(node)):
                problems.append(f"{module.path}:{command}")
    strays = [path for path in ROOT.rglob("*.lua") if not is_foreign(path) and path.parent != ROOT / "store" / "lua"]
    problems += [f"{path.relative_to(ROOT)}: a .lua file outside store/lua" for path in strays]
    fail_on(problems, "Give store/ a typed function for it, with its Lua (if any) in store/lua/*.lua, and call that.")


def redis_command(node: ast.AST) -> str | None:
    """Line and name where the node is a call that looks like a Redis command."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and REDIS_COMMANDS.fullmatch(node.func.attr):
        return f"{node.lineno}: .{node.func.attr}()"
    return None


def test_modules_stay_short() -> None:
    """400 lines, 500 at the very most and then with a reason."""
    lengths = {module.path: len(module.text.splitlines()) for module in modules(*ROOMS)}
    over = {path: length for path, length in lengths.items() if length > MODULE_LINES}
    problems = [
        f"{path}: {length} lines"
        for path, length in over.items()
        if length > MODULE_LINES_AT_MOST or path not in LONG_MODULES
    ]
    fail_on(
        problems,
        f"Split along the nouns at {MODULE_LINES} lines; up to {MODULE_LINES_AT_MOST} with a reason in LONG_MODULES.",
    )
    fail_on_stale("LONG_MODULES", LONG_MODULES, set(over))


def test_functions_stay_short() -> None:
    """40 lines, the docstring and decorators not counted."""
    problems = [
        f"{module.path}:{node.lineno}: {node.name} has {length} lines"
        for module in modules(*ROOMS)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := function_lines(node)) > FUNCTION_LINES
    ]
    fail_on(problems, f"Name the steps and make them functions: at most {FUNCTION_LINES} lines each.")


def function_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    length = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node) is not None:
        length -= (first.end_lineno or first.lineno) - first.lineno + 1
    return length


def test_every_folder_of_a_room_is_packaged() -> None:
    """A sub-package missing from `packages` works in a checkout and is missing from the wheel."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    declared = set(project["tool"]["setuptools"]["packages"]) - {PRODUCT}  # `package/` is not a room
    found = {f"{PRODUCT}.{folder.replace('/', '.')}" for folder in folders_of_rooms()}
    problems = [f"{name}: not in packages" for name in sorted(found - declared)]
    problems += [f"{name}: in packages, and no such folder" for name in sorted(declared - found)]
    problems += [f"{name}: deeper than one level" for name in sorted(found) if name.count(".") > 2]
    fail_on(problems, "List each folder of a room in [tool.setuptools] packages; a room has sub-rooms one level deep.")


def test_no_folder_of_a_room_is_crowded() -> None:
    """A reader takes in a folder at a glance. `__init__.py` and `__main__.py` are not counted."""
    counts = {folder: len([m for m in names if not m.startswith("__")]) for folder, names in folders_of_rooms().items()}
    problems = [f"{folder}: {count} modules" for folder, count in counts.items() if count > FOLDER_MODULES]
    fail_on(problems, f"At most {FOLDER_MODULES} modules a folder: part it by subject.")


def test_every_module_says_what_it_is_for() -> None:
    """A module docstring says what lives here and what must not. An empty `__init__.py` needs none."""
    problems = [
        module.path
        for module in modules(*ROOMS, "tests", "examples", "bench")
        if module.text.strip() and not ast.get_docstring(module.tree)
    ]
    fail_on(problems, "Start the file with a docstring: what lives here and what must not.")


def test_every_lua_script_starts_with_its_contract() -> None:
    """The header says purpose, KEYS, ARGV, returns, events. What is part of each script has no keys."""
    problems = []
    for path in sorted((ROOT / "store" / "lua").glob("*.lua")):
        lines = path.read_text(encoding="utf-8").splitlines()
        header = "\n".join(takewhile(lambda line: line.startswith("--"), lines)).lower()
        wanted = ("--",) if path.name in ("ordering.lua", "prelude.lua") else ("keys", "argv", "return", "event")
        if missing := [word for word in wanted if word not in header]:
            problems.append(f"{path.relative_to(ROOT)}: the header lacks {', '.join(missing)}")
    fail_on(problems, "Begin the script with `--` lines: purpose, KEYS, ARGV, returns, events (say 'none' where none).")


def test_module_names_are_nouns_of_the_domain() -> None:
    """A module is one noun; a drawer for everything is not."""
    everywhere = modules(*ROOMS, "tests", "examples", "bench")
    problems = [module.path for module in everywhere if set(re.split(r"[_/.]", module.path)) & VAGUE_NAMES]
    fail_on(problems, "Name the module after what it holds.")


def test_exceptions_are_swallowed_only_where_it_is_declared() -> None:
    """`except Exception` in the worker's call step and at the app's top, nowhere else."""
    found = {
        f"{module.path}:{node.lineno}": module.path
        for module in modules(*ROOMS)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ExceptHandler) and is_broad(node) and not raises_again(node)
    }
    problems = [place for place, path in found.items() if path not in BROAD_HANDLERS]
    fail_on(problems, "Catch what can be mended there, or declare the file with its reason in BROAD_HANDLERS.")
    fail_on_stale("BROAD_HANDLERS", BROAD_HANDLERS, set(found.values()))


def is_broad(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or ast.unparse(kind) in ("Exception", "BaseException") for kind in caught)


def raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def test_tests_wait_for_events_instead_of_sleeping() -> None:
    """A sleep is allowed as the interval of a bounded poll (in a loop, 0.1 s at most), as sleep(0), and as
    the work of a tool under test (decorated with `.tool(...)` or taking a `Context`)."""
    found = {f"{module.path}:{line}": module.path for module in modules("tests") for line in waits(module.tree, 0)}
    problems = [place for place, path in found.items() if path not in SLEEPS_AS_WORK]
    fail_on(
        problems,
        "Wait on an event under fail_after(30), or poll in a loop with a deadline and an interval of at most "
        f"{POLL_SECONDS} s. Where the sleep is the work under test, declare the file in SLEEPS_AS_WORK.",
    )
    fail_on_stale("SLEEPS_AS_WORK", SLEEPS_AS_WORK, set(found.values()))


def waits(node: ast.AST, limit: float) -> Iterator[int]:
    """Lines with a sleep longer than allowed where it stands."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call) and SLEEP.fullmatch(ast.unparse(child.func)) and not is_short(child, limit):
            yield child.lineno
        yield from waits(child, limit_inside(child, limit))


def limit_inside(node: ast.AST, limit: float) -> float:
    """The longest sleep that the body of this node may hold, in seconds."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return math.inf if is_tool(node) else 0
    return max(limit, POLL_SECONDS) if isinstance(node, ast.For | ast.AsyncFor | ast.While) else limit


def is_tool(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    called = [decorator.func for decorator in node.decorator_list if isinstance(decorator, ast.Call)]
    takes_context = any(a.annotation and "Context" in ast.unparse(a.annotation) for a in node.args.args)
    return takes_context or any(isinstance(func, ast.Attribute) and func.attr == "tool" for func in called)


def is_short(call: ast.Call, limit: float) -> bool:
    length = call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else math.inf
    return isinstance(length, int | float) and length <= limit
