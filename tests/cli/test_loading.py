"""Which server object `taskmill` finds in a file, and its message when there is none."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskmill.cli.loading import load_server
from taskmill.engine.errors import ServerLoadError
from taskmill.server import TaskServer

HEAD = "from taskmill.server import TaskServer\n"
PLAIN = "from mcp.server.mcpserver import MCPServer\nmcp = MCPServer('plain')\n"


@pytest.fixture(autouse=True)
def _imports_as_before() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def _in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, text: str) -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return name


def refusal(target: str) -> ServerLoadError:
    with pytest.raises(ServerLoadError) as caught:
        load_server(target)
    return caught.value


class TestWhichObject:
    def test_the_usual_names_come_first(self) -> None:
        write("s.py", HEAD + "other = TaskServer('other')\nserver = TaskServer('server')\nmcp = TaskServer('mcp')\n")
        assert load_server("s.py").name == "mcp"

    def test_a_single_server_may_have_any_name(self) -> None:
        write("s.py", HEAD + "tools = TaskServer('tools')\nsame = tools\n")
        assert load_server("s.py").name == "tools"

    def test_a_name_after_the_colon_selects(self) -> None:
        write("s.py", HEAD + "mcp = TaskServer('mcp')\nother = TaskServer('other')\n")
        assert load_server("s.py:other").name == "other"

    def test_a_plain_server_beside_it_is_ignored(self) -> None:
        write("s.py", PLAIN + HEAD + "tools = TaskServer('tools')\n")
        assert load_server("s.py").name == "tools"

    def test_several_servers_are_listed_as_they_would_be_written(self) -> None:
        write("s.py", HEAD + "one = TaskServer('1')\ntwo = TaskServer('2')\n")
        assert "s.py:one or s.py:two" in str(refusal("s.py"))

    def test_without_a_server_it_says_what_to_write(self) -> None:
        write("s.py", HEAD + "def build():\n    return TaskServer('hidden')\n")
        assert "mcp = TaskServer(" in str(refusal("s.py"))

    def test_a_function_makes_it(self) -> None:
        write("s.py", HEAD + "def create(name='made'):\n    return TaskServer(name)\n")
        server = load_server("s.py:create")
        assert (server.name, server.import_path) == ("made", "s.py:create")

    @pytest.mark.parametrize(
        ("function", "expected_text"),
        [
            ("def create(name): ...", "must be callable without arguments (missing a required argument: 'name')"),
            ("async def create(): ...", "is an async function: write it with `def`"),
            ("def create(): return 3", "returned a int, not a TaskServer or a FastMCP server."),
        ],
    )
    def test_a_function_that_makes_none_is_one_line(self, function: str, expected_text: str) -> None:
        write("s.py", HEAD + function)
        assert expected_text in str(refusal("s.py:create"))

    def test_a_function_that_raises_shows_the_authors_lines(self) -> None:
        write("s.py", HEAD + "def create():\n    return 1 / 0\n")
        assert refusal("s.py:create").facts["trace"].splitlines()[1].endswith('s.py", line 3, in create')

    def test_without_a_server_it_names_the_function_to_write(self) -> None:
        write("s.py", HEAD + "def build():\n    return TaskServer('hidden')\n")
        assert "s.py:create" in str(refusal("s.py"))

    def test_run_without_a_guard_does_nothing_while_it_is_loaded(self) -> None:
        write("s.py", HEAD + "mcp = TaskServer('x')\nmcp.run()\nmcp.run('http')\n")
        assert load_server("s.py").name == "x"

    def test_a_plain_server_is_refused_with_the_change_to_make(self) -> None:
        write("s.py", PLAIN)
        for target in ("s.py", "s.py:mcp"):
            message = str(refusal(target))
            assert "from taskmill.server import TaskServer" in message
            assert "mcp = TaskServer(...)" in message

    def test_a_name_that_is_not_there_lists_those_that_are(self) -> None:
        write("s.py", HEAD + "tools = TaskServer('tools')\n")
        assert str(refusal("s.py:nothing")) == "s.py has no 'nothing'. It has s.py:tools."

    def test_another_kind_of_object_is_named_by_its_type(self) -> None:
        write("s.py", HEAD + "tools = 3\n")
        assert str(refusal("s.py:tools")) == "s.py:tools is of type int, not a TaskServer or a FastMCP server."


class TestWhichFile:
    @pytest.mark.parametrize("target", ["pkg.tools", "pkg.tools:mcp", "pkg/tools.py", "./pkg/tools.py:mcp"])
    def test_a_module_is_found_by_its_dotted_name_or_its_path(self, target: str) -> None:
        write("pkg/__init__.py", "")
        write("pkg/tools.py", HEAD + "mcp = TaskServer('found')\n")
        assert load_server(target).name == "found"

    @pytest.mark.parametrize(
        ("target", "expected_text"),
        [
            ("nowhere.py", "There is no file nowhere.py."),
            ("no.such.module", "There is no file or module no.such.module."),
            ("pkg", "pkg is a directory: name the file in it that has the server."),
            (".", ". is a directory: name the file in it that has the server."),
            ("notes.txt", "notes.txt is not a Python file: its name must end in .py."),
            ("s.py:", "'s.py:' does not name a server: write file.py, file.py:name or package.module:name."),
            ("s.py:a-b", "'s.py:a-b' does not name a server: write file.py, file.py:name or package.module:name."),
        ],
    )
    def test_what_cannot_be_a_server_is_refused_in_one_line(self, target: str, expected_text: str) -> None:
        write("pkg/inner.txt", "")
        write("notes.txt", "")
        assert str(refusal(target)) == expected_text

    @pytest.mark.parametrize("name", ["server", "engine", "mcp", "arq", "redis", "taskmill", "my-tools"])
    def test_a_file_of_any_name_hides_nothing_that_is_installed(self, name: str) -> None:
        write(f"{name}.py", HEAD + "import arq.worker, mcp.client, redis.asyncio\nmcp = TaskServer(__name__)\n")
        before = {key: module for key, module in sys.modules.items() if key.split(".")[0] == name}
        assert load_server(f"{name}.py").name == f"taskmill_app.{name.replace('-', '_')}"
        after = {key: module for key, module in sys.modules.items() if key.split(".")[0] == name and key in before}
        assert after == before

    def test_files_beside_it_can_be_imported(self) -> None:
        write("deep/neighbour.py", "NAME = 'next door'\n")
        write("deep/s.py", HEAD + "from neighbour import NAME\nmcp = TaskServer(NAME)\n")
        assert load_server("deep/s.py").name == "next door"

    def test_a_file_beside_it_hides_nothing_that_is_installed(self) -> None:
        write("colorsys.py", "raise AssertionError('the wrong one')\n")
        write("s.py", HEAD + "import colorsys\nmcp = TaskServer(str(hasattr(colorsys, 'rgb_to_hsv')))\n")
        assert load_server("s.py").name == "True"

    def test_it_can_import_relatively(self) -> None:
        write("deep/neighbour.py", "NAME = 'next door'\n")
        write("deep/s.py", HEAD + "from .neighbour import NAME\nmcp = TaskServer(NAME)\n")
        assert load_server("deep/s.py").name == "next door"

    def test_in_a_package_it_is_a_module_of_that_package(self) -> None:
        write("shop/__init__.py", "NAME = 'the shop'\n")
        write("shop/web/__init__.py", "")
        write("shop/web/s.py", HEAD + "from .. import NAME\nmcp = TaskServer(f'{NAME} {__name__}')\n")
        assert load_server("shop/web/s.py").name == "the shop shop.web.s"

    def test_in_a_folder_named_as_an_installed_package_it_stays_itself(self) -> None:
        write("arq/__init__.py", "raise AssertionError('the wrong one')\n")
        write("arq/s.py", HEAD + "import arq.worker\nmcp = TaskServer(__name__)\n")
        assert load_server("arq/s.py").name == "taskmill_app.s"

    def test_its_classes_are_found_through_their_module(self) -> None:
        """Pickle and pydantic look a class up by the name of its module."""
        write("s.py", HEAD + "import pickle\nclass A: ...\nmcp = TaskServer(pickle.loads(pickle.dumps(A)).__name__)\n")
        assert load_server("s.py").name == "A"


class TestFailingModules:
    def test_the_traceback_starts_in_the_authors_file(self) -> None:
        write("s.py", "def broken():\n    return 1 / 0\n\nbroken()\n")
        error = refusal("s.py")
        trace = error.facts["trace"].splitlines()
        assert trace[0] == "Traceback (most recent call last):"
        assert trace[1].endswith('s.py", line 4, in <module>')
        assert trace[-1] == "ZeroDivisionError: division by zero"
        assert "loading.py" not in error.facts["trace"]
        assert "importlib" not in error.facts["trace"]

    def test_a_module_that_it_misses_is_not_taken_for_the_file(self) -> None:
        write("s.py", "import no_such_library\n")
        assert "No module named 'no_such_library'" in refusal("s.py").facts["trace"]

    def test_a_syntax_error_is_one_line_with_its_place(self) -> None:
        write("s.py", "x = 1\ndef f(:\n")
        assert str(refusal("s.py")).endswith("s.py, line 2: invalid syntax.")

    def test_sys_exit_is_named_with_its_line(self) -> None:
        write("s.py", "import sys\n\nsys.exit(3)\n")
        assert "s.py, line 3: the module ended the program" in str(refusal("s.py"))

    def test_two_tools_of_one_name_are_one_line_with_its_place(self) -> None:
        tool = "@mcp.tool(name='same', task=True)\ndef {}() -> None: ...\n"
        write("s.py", HEAD + "mcp = TaskServer('x')\n" + tool.format("f") + tool.format("g"))
        error = refusal("s.py")
        assert "s.py, line 5: Two tools are named 'same'" in str(error)
        assert "trace" not in error.facts

    def test_interrupting_it_is_an_interrupt(self) -> None:
        write("s.py", "raise KeyboardInterrupt\n")
        with pytest.raises(KeyboardInterrupt):
            load_server("s.py")


def test_a_loaded_server_is_a_task_server() -> None:
    write("s.py", HEAD + "mcp = TaskServer('x')\n")
    assert isinstance(load_server("s.py"), TaskServer)
