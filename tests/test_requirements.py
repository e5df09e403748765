"""Each requirement has a test, and each test that names one names one that exists."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.requirements import REQUIREMENTS

TESTS = Path(__file__).parent


def named() -> Iterator[tuple[str, str]]:
    """(requirement, test) for every mark in every test file."""
    for path in sorted(TESTS.rglob("test_*.py")):
        if "node_modules" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for mark in node.decorator_list:
                    if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.requirement":
                        for argument in mark.args:
                            assert isinstance(argument, ast.Constant), f"{path}: {node.name}"
                            yield str(argument.value), f"{path.name}::{node.name}"


def test_every_requirement_is_held_by_a_test() -> None:
    assert set(REQUIREMENTS) - {requirement for requirement, _ in named()} == set()


def test_every_test_names_requirements_that_exist() -> None:
    assert [(one, test) for one, test in named() if one not in REQUIREMENTS] == []


def test_every_requirement_says_where_it_stands() -> None:
    assert [one for one, (where, says) in REQUIREMENTS.items() if not (where and says)] == []
