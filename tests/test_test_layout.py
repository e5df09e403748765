"""The rules between the tests themselves: where helpers stand, that each is written once, and how long they wait."""

import ast
from collections import defaultdict
from collections.abc import Iterator

from tests.support.room_imports import Module, fail_on, imports, modules

# Modules of one folder that another may import although they are not in tests/support, each with its reason.
PART_OF_ITS_FOLDER = {
    "tests.model.mutants": "the faults that the search must see; the store's tests and a page take the list as it is",
    "tests.stateful.lifecycle_machine": "the state machine is a program of its own, and the search is compared with it",
}
# Programs that tests start by path, mostly with another interpreter: each stands alone, or imports its siblings.
PROGRAMS = {
    "tests/clients/fastmcp_client.py",
    "tests/clients/python1_client.py",
    "tests/clients/python2_client.py",
    "tests/clients/server.py",
    "tests/hosts/foreign_server.py",
    "tests/promises/sharded_server.py",
    "tests/promises/server.py",
    "tests/support/forking_process.py",
}

SHORTEST_LIMIT = 20
# Files whose limits below SHORTEST_LIMIT are what is tested, or whose end is no failure, each with its reason.
SHORT_LIMITS = {
    "tests/chaos/deployment.py": "whether a replica is ready is asked again and again",
    "tests/fuzz/asgi.py": "the application is stopped when it has not ended by then",
    "tests/server/test_foreign_access.py": "a stream is read for a moment",
    "tests/store/test_cluster.py": "a wait that ends without a token",
    "tests/store/test_wakeup.py": "a wait that ends without a token",
    "tests/testing/test_bed.py": "what comes when it is over",
    "tests/workers/test_blocked_loop.py": "what blocks the loop",
}


def test_no_test_file_imports_from_another() -> None:
    problems = [
        f"{module.path}:{line}: {base}"
        for module in modules("tests")
        for line, base, _ in imports(module)
        if base.startswith("tests.") and base.rpartition(".")[2].startswith("test_")
    ]
    fail_on(problems, "Move what both need into a module of its own, in tests/support if the folders differ.")


def test_what_two_folders_share_is_in_support() -> None:
    problems = [
        f"{module.path}:{line}: {base}"
        for module in modules("tests")
        for line, base, _ in imports(module)
        if base.startswith("tests.") and base.count(".") > 1 and base not in PART_OF_ITS_FOLDER
        if base.split(".")[1] not in ("support", module.path.split("/")[1])
    ]
    fail_on(problems, "Move the module into tests/support.")


def test_no_helper_is_written_twice() -> None:
    """Functions at the top of a module, by name and body; the words of their docstrings do not count."""
    found = defaultdict(list)
    for module in modules("tests"):
        if module.path not in PROGRAMS:
            for node in helpers(module):
                found[node.name, body_of(node)].append(f"{module.path}:{node.lineno}: {node.name}")
    problems = [place for places in found.values() if len(places) > 1 for place in places]
    fail_on(problems, "Keep one: in the folder's conftest.py if it is a fixture, else in a module that both import.")


def helpers(module: Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in module.tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("test_"):
            yield node


def body_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """Parameters, decorators and statements, without the docstring."""
    statements = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return "\n".join(ast.unparse(part) for part in (node.args, *node.decorator_list, *statements))


def test_no_test_fails_because_its_machine_is_slow() -> None:
    """What a test waits for may take many seconds on a machine that runs much else: a limit is there to end a hang."""
    found = [(module.path, line) for module in modules("tests") for line in short_limits(module.tree)]
    problems = [f"{path}:{line}" for path, line in found if path not in SHORT_LIMITS]
    fail_on(
        problems,
        f"Wait for {SHORTEST_LIMIT} s at least, or as long as tests/support/waiting.py says. Where the limit is what "
        "is tested, declare the file in SHORT_LIMITS.",
    )
    assert {path for path, _ in found} >= SHORT_LIMITS.keys(), "SHORT_LIMITS: take out what is not needed any more"


# The limits of calls that wait: their keyword, and the position of those that are given without.
LIMITS = {
    **dict.fromkeys(("run", "communicate", "urlopen", "HTTPConnection", "create_connection"), ("timeout", 99)),
    **dict.fromkeys(("wait", "join"), ("timeout", 0)),
    **dict.fromkeys(("fail_after", "move_on_after"), ("delay", 0)),
    "wait_for": ("timeout", 1),
}


def short_limits(tree: ast.AST) -> Iterator[int]:
    """Lines with a call that waits for less, by a number that stands there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            keyword, position = LIMITS.get(ast.unparse(node.func).rpartition(".")[2], ("within", 99))
            given = [each.value for each in node.keywords if each.arg in (keyword, "within")]
            if any(map(is_short, [*given, *node.args[position : position + 1]])):
                yield node.lineno


def is_short(limit: ast.expr) -> bool:
    number = limit.value if isinstance(limit, ast.Constant) else None
    return isinstance(number, int | float) and 0 < number < SHORTEST_LIMIT
