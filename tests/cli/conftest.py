"""A command line of its own for every test that asks for `cli`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine, PythonLine


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    """Nothing runs before the test, and nothing it started runs behind it."""
    with CommandLine(tmp_path) as command_line:
        yield command_line


@pytest.fixture
def python(cli: CommandLine) -> PythonLine:
    """The same folder, with commands of Python's."""
    return PythonLine(cli.folder, cli.environment)
