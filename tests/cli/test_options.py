"""Options of all commands: what their help shows, and what the environment may hold."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from taskmill.cli.commands import app
from taskmill.cli.variables import known_variables, unknown_variables, warn_of_unknown_variables
from tests.support.command_line import CommandLine

REFERENCE = Path(__file__).parents[2] / "docs" / "reference.md"


def commands(command: Any, path: str = "taskmill") -> Iterator[tuple[str, Any]]:
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, f"{path} {name}")
    yield path, command


@pytest.mark.parametrize("path", [path for path, _ in commands(typer.main.get_command(app))])
def test_a_flag_shows_no_type_in_the_help(path: str) -> None:
    command = dict(commands(typer.main.get_command(app)))[path]
    flags = [param for param in command.params if getattr(param, "is_flag", False) and not param.hidden]
    own = [param for param in flags if param.name not in ("install_completion", "show_completion")]
    assert [param.opts for param in own if param.metavar is None] == []


def test_every_variable_of_the_reference_is_known() -> None:
    named = set(re.findall(r"`(TASKMILL_[A-Z_]+)", REFERENCE.read_text(encoding="utf-8")))
    assert named - known_variables() == set()


def test_a_misspelt_variable_is_reported_with_the_setting_that_is_meant(capsys: pytest.CaptureFixture[str]) -> None:
    warn_of_unknown_variables({"TASKMILL_CONCURENCY": "4", "TASKMILL_GRACE": "1", "HOME": "/", "taskmill_port": "1"})
    assert capsys.readouterr().err == (
        "taskmill: There is no setting TASKMILL_CONCURENCY; it is ignored. Is TASKMILL_CONCURRENCY meant?\n"
    )


def test_a_variable_that_is_like_no_setting_is_reported_alone() -> None:
    assert unknown_variables({"TASKMILL_ZZZ": "", "TASKMILL_TEST_X": ""}, known_variables()) == {"TASKMILL_ZZZ": None}


def test_a_misspelt_variable_is_reported_by_a_command(cli: CommandLine) -> None:
    done = cli.run("doctor", "--json", TASKMILL_CONCURENCY="4")
    assert "Is TASKMILL_CONCURRENCY meant?" in done.stderr


def test_a_shell_can_complete_commands(cli: CommandLine) -> None:
    done = cli.run(_TASKMILL_COMPLETE="complete_bash", COMP_WORDS="taskmill tas", COMP_CWORD="1")
    assert done.stdout.split() == ["tasks"]
