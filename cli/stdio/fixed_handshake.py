"""Whether what a server answers first is written in the author's file, so that the same file always answers the same.

Name, version, instructions may be computed: from the time, a file, a variable. Then only the loaded server knows them.
Here the file is read, not run, and anything that is not plainly fixed counts as computed: the price is a slower start.
"""

import ast
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from taskmill.adapters.foreign_servers import plain_fastmcp
from taskmill.server import TaskServer
from taskmill.server.tool_host import ToolHost

__all__ = ["is_fixed"]

_TEXT_FUNCTIONS = (("dedent", "textwrap"), ("cleandoc", "inspect"))
"""Functions, and their modules, whose result depends on nothing but what they get."""
_POLICY = "TaskConfig"
_DYNAMIC = frozenset({"globals", "locals", "vars", "exec", "eval", "compile", "__import__", "import_module", "modules"})


@dataclass(frozen=True)
class _Kind:
    """A class of servers."""

    name: str
    imported_from: tuple[str, ...]
    policies_from: tuple[str, ...]
    """Modules that have its `TaskConfig`."""
    positional: int
    """How many arguments it takes without their names."""
    not_answered: frozenset[str]
    """Arguments that change no answer to `server/discover` or `initialize`."""
    used: frozenset[str]
    """What a file may use of its server without a change of these answers; of tools see `_has_fixed_tasks`."""
    needs_name: bool = False
    """Whether a server without a name makes one up."""
    tools: frozenset[str] = frozenset({"tool"})
    """Of these, what registers tools."""


_OWN = _Kind(
    "TaskServer",
    imported_from=("taskmill", "taskmill.server"),
    policies_from=("taskmill", "taskmill.server"),
    positional=1,
    not_answered=frozenset(
        {"store", "visible_claims", "hosts", "follow_up_tools", "lifespan", "auth", "token_verifier"}
    ),
    used=frozenset({"tool", "add_tool", "resource", "prompt", "custom_route", "run", "http_app"}),
    tools=frozenset({"tool", "add_tool"}),
)
_FASTMCP = _Kind(
    "FastMCP",
    imported_from=("fastmcp", "fastmcp.server", "fastmcp.server.server"),
    policies_from=("fastmcp.utilities.tasks", "fastmcp.server.tasks", "taskmill.adapters.fastmcp"),
    positional=2,
    not_answered=frozenset({"lifespan", "auth", "on_duplicate", "mask_error_details", "session_state_store"}),
    used=frozenset({"tool", "resource", "prompt", "custom_route", "run", "run_async", "http_app"}),
    needs_name=True,
)


def is_fixed(server: ToolHost, main: str, authored: Collection[ModuleType]) -> bool:
    """Whether the server's first answers depend on nothing but the files that were loaded.

    `main`: the file that has the server; `authored`: the loaded modules of the author, with that one.
    """
    kind, made = (_OWN, server) if type(server) is TaskServer else (_FASTMCP, plain_fastmcp(server))
    if made is None:
        return False
    holders = [module for module in authored if any(value is made for value in vars(module).values())]
    # Another module that has the server, or the module of the server, could change it.
    if len(holders) != 1 or any(_may_use(module, holders[0]) for module in authored):
        return False
    names = [name for name, value in vars(holders[0]).items() if value is made]
    try:
        tree = ast.parse(Path(main).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    return len(names) == 1 and _ServerFile(tree, names[0], kind).is_fixed()


def _may_use(module: ModuleType, server_module: ModuleType) -> bool:
    """Whether a module has the module of the server and may use it. A package has it without asking for it."""
    if all(value is not server_module for value in vars(module).values()):
        return False
    package, _, name = server_module.__name__.rpartition(".")
    if module.__name__ != package or module.__file__ is None:
        return True
    try:
        return name.encode() in Path(module.__file__).read_bytes()
    except OSError:
        return True


class _ServerFile:
    """The author's file, and the name of its server there."""

    def __init__(self, tree: ast.Module, server: str, kind: _Kind) -> None:
        self._tree = tree
        self._kind = kind
        self._server = server
        self._bound = list(_bound_names(tree))

    def is_fixed(self) -> bool:
        made = self._single(self._server)
        loads = [node for node in ast.walk(self._tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
        # A star may bind any name.
        if made is None or "*" in self._bound:
            return False
        attributes = [node for node in ast.walk(self._tree) if isinstance(node, ast.Attribute)]
        used = [node for node in attributes if isinstance(node.value, ast.Name) and node.value.id == self._server]
        # Each use is of a known attribute; the server itself goes nowhere.
        if (
            len(used) != sum(node.id == self._server for node in loads)
            or not {node.attr for node in used} <= self._kind.used
        ):
            return False
        names = {node.id for node in loads} | {node.attr for node in attributes}
        if names & _DYNAMIC or not all(isinstance(node.ctx, ast.Load) for node in used):
            return False
        return self._is_plain_construction(made) and self._has_fixed_tasks(
            sum(node.attr in self._kind.tools for node in used)
        )

    def _assignments(self) -> Iterator[tuple[str, ast.expr]]:
        """Names that are assigned at the top level, on no condition, and their values."""
        for node in self._tree.body:
            if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                yield node.targets[0].id, node.value
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
                yield node.target.id, node.value

    def _is_plain_construction(self, made: ast.expr) -> bool:
        kind = self._kind
        if not isinstance(made, ast.Call) or not isinstance(made.func, ast.Name) or len(made.args) > kind.positional:
            return False
        if not self._is_imported(made.func, kind.name, kind.imported_from):
            return False
        if kind.needs_name and not self._has_name(made):
            return False
        answered = [keyword for keyword in made.keywords if keyword.arg not in kind.not_answered]
        values = [*made.args, *(keyword.value for keyword in answered)]
        return all(keyword.arg is not None for keyword in answered) and all(
            self._is_constant(value) for value in values
        )

    def _has_name(self, made: ast.Call) -> bool:
        """Whether the server is given one, and no argument that makes all of its tools tasks."""
        given = {word.arg: word.value for word in made.keywords}
        named = made.args[0] if made.args else given.get("name")
        is_none = isinstance(named, ast.Constant) and named.value is None
        return named is not None and not is_none and "tasks" not in given

    def _is_imported(self, value: ast.expr, name: str, sources: Sequence[str]) -> bool:
        """Whether it is this name of these modules, imported at the top level on no condition, and nothing else."""
        if not isinstance(value, ast.Name) or self._bound.count(value.id) != 1:
            return False
        imports = [node for node in self._tree.body if isinstance(node, ast.ImportFrom) and node.level == 0]
        ours = [alias for node in imports if node.module in sources for alias in node.names]
        return any((alias.asname or alias.name) == value.id and alias.name == name for alias in ours)

    def _single(self, name: str) -> ast.expr | None:
        """The value of a name that is bound once in the file, at the top level and on no condition."""
        found = [value for assigned, value in self._assignments() if assigned == name]
        return found[0] if len(found) == 1 and self._bound.count(name) == 1 else None

    def _is_constant(self, value: ast.expr, *, follows: bool = True) -> bool:
        match value:
            case ast.Constant():
                return True
            case ast.BinOp(op=ast.Add()):
                return all(self._is_constant(one, follows=follows) for one in (value.left, value.right))
            case ast.Call(func=ast.Attribute(value=text), args=args, keywords=[]):
                return all(self._is_constant(one, follows=follows) for one in (text, *args))  # "...".strip()
            case ast.Call(func=function, args=args, keywords=[]):
                is_known = any(self._is_imported(function, name, [source]) for name, source in _TEXT_FUNCTIONS)
                return is_known and all(self._is_constant(one, follows=follows) for one in args)
            case ast.Name(id="__doc__"):
                return "__doc__" not in self._bound
            case ast.Name():
                found = self._single(value.id)
                return follows and found is not None and self._is_constant(found, follows=False)
        return False

    def _has_fixed_tasks(self, uses: int) -> bool:
        """Whether there are task tools on any condition, or on no condition: revision 2025-11-25 answers it."""
        decorators = [
            decorator
            for node in self._tree.body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            for decorator in node.decorator_list
        ]
        expressions = [node.value for node in self._tree.body if isinstance(node, ast.Expr)]
        if self._kind is _FASTMCP:
            # FastMCP's other forms take a tool that may be a task without saying so here.
            if not self._decorates_functions_only():
                return False
            expressions = []
        calls = [node for top in [*decorators, *expressions] for node in _outer_calls(top)]
        registering = [call for call in calls if self._registers(call.func)]
        plain = [node for node in decorators if self._registers(node)]
        tasks = [word.value for call in registering for word in call.keywords if word.arg == "task"]
        if any(self._is_task(task) for task in tasks):
            return True
        has_spread = any(word.arg is None for call in registering for word in call.keywords)
        return len(registering) + len(plain) == uses and not tasks and not has_spread

    def _decorates_functions_only(self) -> bool:
        """Whether each tool at the top level is a function that has no other decorator."""
        functions = [node for node in self._tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        return all(
            len(node.decorator_list) == 1
            for node in functions
            if any(self._registers(inner) for one in node.decorator_list for inner in ast.walk(one))
        )

    def _is_task(self, value: ast.expr) -> bool:
        """Whether a value of `task=` makes a task tool of every tool: True, or a policy."""
        named = self._single(value.id) if isinstance(value, ast.Name) else value
        if isinstance(named, ast.Constant):
            return named.value is True
        if not isinstance(named, ast.Call) or not self._is_imported(named.func, _POLICY, self._kind.policies_from):
            return False
        # FastMCP's policy may forbid tasks.
        return self._kind is _OWN or (not named.args and all(word.arg not in (None, "mode") for word in named.keywords))

    def _registers(self, function: ast.AST) -> bool:
        return (
            isinstance(function, ast.Attribute)
            and function.attr in self._kind.tools
            and isinstance(function.value, ast.Name)
            and function.value.id == self._server
        )


def _outer_calls(expression: ast.expr) -> Iterator[ast.Call]:
    """`f(...)`, and in `f(...)(...)` both calls."""
    while isinstance(expression, ast.Call):
        yield expression
        expression = expression.func


def _bound_names(tree: ast.Module) -> Iterator[str]:
    """Every name that anything in the file binds, in whatever scope, once for each time."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(ctx=ast.Store() | ast.Del()):
                yield node.id
            case ast.arg():
                yield node.arg
            case ast.alias():
                yield (node.asname or node.name).partition(".")[0]
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Global() | ast.Nonlocal():
                yield from node.names
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name
            case ast.MatchMapping(rest=str(rest)):
                yield rest
