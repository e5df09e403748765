"""By what words another process finds a server: those of a command line, else the module that has it."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from taskmill.server import TaskServer


def test_a_server_at_the_top_of_a_file_is_found_by_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `python server.py`, or a file that was loaded by its path."""
    module = ModuleType("__main__")
    module.__file__ = "/srv/server.py"
    module.tools = server = TaskServer("Origin")  # type: ignore[attr-defined]  # a module may have anything
    monkeypatch.setitem(sys.modules, "taskmill_test_main", module)

    assert server.import_path == "/srv/server.py:tools"


def test_a_server_of_a_package_is_found_by_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_of_tools").mkdir()
    (tmp_path / "shop_of_tools" / "__init__.py").touch()
    (tmp_path / "shop_of_tools" / "tools.py").write_text(
        "from taskmill.server import TaskServer\nmcp = TaskServer('Shop')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    # A name that no other test has: the package stays imported in this process.
    import shop_of_tools.tools  # type: ignore[import-not-found]  # it was just written

    assert shop_of_tools.tools.mcp.import_path == "shop_of_tools.tools:mcp"


def test_the_words_of_a_command_line_go_first() -> None:
    server: TaskServer[Any] = TaskServer("Origin")
    server.import_path = "server.py:mcp"

    assert server.import_path == "server.py:mcp"


def test_a_server_that_no_module_has_cannot_be_found() -> None:
    hidden = ModuleType("hidden")
    hidden.mcp = server = TaskServer("Origin")  # type: ignore[attr-defined]  # a module may have anything

    assert server.import_path is None
    assert "hidden" not in sys.modules
