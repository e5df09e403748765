"""`taskmill run --reload` and `taskmill dev`: a change of the files starts the new code, and nothing is lost."""

import json
import os
from typing import Any

import pytest

from tests.support.command_line import CommandLine, Started
from tests.support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # each reload starts two processes

SERVER = """
import asyncio
from pathlib import Path

from taskmill.server import TaskConfig, TaskServer

from words import WORD

mcp = TaskServer("Tools")
QUICK = TaskConfig(poll_interval=0.1)

@mcp.tool(task=QUICK)
async def who() -> str:
    return WORD

@mcp.tool(task=QUICK)
async def wait() -> str:
    while not Path("gate").exists():
        await asyncio.sleep(0.02)
    return WORD
"""


@pytest.fixture
def edited(cli: CommandLine) -> CommandLine:
    """A server in a file that imports a module beside it."""
    cli.write("edited.py", SERVER)
    cli.write("words.py", "WORD = 'old'\n")
    return cli


def who(cli: CommandLine, url: str) -> str:
    return cli.run("call", "--url", url, "who").stdout


def shown(cli: CommandLine, url: str, task_id: str) -> dict[str, Any]:
    task: dict[str, Any] = json.loads(
        cli.run("tasks", "show", task_id, "--json", "--url", url.removesuffix("/mcp")).stdout
    )
    return task


def log_has(command: Started, event: str) -> bool:
    return event in command.log.read_text()


def test_an_edit_of_an_imported_module_starts_the_new_code_and_a_running_task_runs_again_under_it(
    edited: CommandLine,
) -> None:
    with edited.started("run", "edited.py", "--port", "0", "--reload") as command:
        url = command.url()
        task_id = edited.run("call", "--url", url, "wait", "--detach").stdout.strip()
        edited.write("words.py", "WORD = 'the new one'\n")
        assert command.url() == url, "the address stays"
        assert who(edited, url) == "the new one\n"
        eventually(lambda: shown(edited, url, task_id)["attempts"] == 2)
        (edited.folder / "gate").touch()
        assert edited.run("call", "--url", url, "--attach", task_id).stdout == "the new one\n"
        assert shown(edited, url, task_id)["crashes"] == 0
        assert command.end() == 0
    assert edited.processes() == {}


def test_code_that_cannot_be_imported_is_reported_and_the_old_code_serves_until_it_is_corrected(
    edited: CommandLine,
) -> None:
    with edited.started("dev", "edited.py", "--port", "0") as command:
        url = command.url()
        edited.write("words.py", "WORD = \n")
        eventually(lambda: log_has(command, "reload.failed"))
        assert "words.py, line 1: invalid syntax" in command.log.read_text()
        assert who(edited, url) == "old\n"
        edited.write("words.py", "WORD = 'corrected'\n")
        assert command.url() == url
        assert who(edited, url) == "corrected\n"


def test_a_file_that_vanishes_is_reported_and_the_old_code_goes_on_until_it_comes_back(edited: CommandLine) -> None:
    with edited.started("run", "edited.py", "--port", "0", "--reload") as command:
        url = command.url()
        os.unlink(edited.folder / "edited.py")
        eventually(lambda: log_has(command, "source.missing"))
        assert who(edited, url) == "old\n"
        edited.write("edited.py", SERVER.replace("return WORD", "return 'back with ' + WORD"))
        assert command.url() == url
        assert who(edited, url) == "back with old\n"
        assert command.end() == 0


def test_without_reload_a_change_is_a_warning_that_names_both_versions(edited: CommandLine) -> None:
    with edited.started("run", "edited.py", "--port", "0") as command:
        command.url()
        edited.write("words.py", "WORD = 'the new one'\n")
        eventually(lambda: log_has(command, "source.changed"))
        (line,) = [line for line in command.log.read_text().splitlines() if "source.changed" in line]
        warning = json.loads(line)
        assert warning["level"] == "warning"
        assert warning["file"].endswith("words.py")
        assert warning["running"].startswith("of 20")
        assert warning["on_disk"].startswith("of 20")
        assert "--reload" in warning["hint"]
