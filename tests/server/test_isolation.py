"""What a tool in a process of its own must be: something another process finds by its name."""

from typing import Any

import pytest

from taskmill.engine.errors import PolicyError
from taskmill.server import TaskConfig, TaskServer

CONFINED = TaskConfig(isolation="process")


def at_the_top(text: str) -> str:
    """A function of a module."""
    return text


def test_a_function_of_a_module_may_be_confined() -> None:
    mcp: TaskServer[Any] = TaskServer("Confining")
    mcp.add_tool(at_the_top, task=CONFINED)

    assert mcp.policies()["at_the_top"].isolation == "process"


def test_a_function_inside_a_function_is_refused_at_import_and_named() -> None:
    mcp: TaskServer[Any] = TaskServer("Confining")
    with pytest.raises(PolicyError) as refused:

        @mcp.tool(task=CONFINED)
        def hidden(text: str) -> str:
            return text

    assert str(refused.value) == (
        "Tool 'hidden': isolation='process' needs a function at the top level of a module, which another process can "
        "find; test_a_function_inside_a_function_is_refused_at_import_and_named.<locals>.hidden is not one"
    )


def test_a_lambda_is_refused_at_import_and_the_tool_is_named() -> None:
    mcp: TaskServer[Any] = TaskServer("Confining")
    with pytest.raises(PolicyError, match=r"^Tool 'brief': .*<lambda> is not one$"):
        mcp.add_tool(lambda text: text, "brief", task=CONFINED)
