"""Commands with a TARGET that is no file of ours: real processes on both sides of Taskmill."""

import sys

import pytest

from tests.adapters.remote_servers import foreign_words, served
from tests.support.command_line import CommandLine
from tests.support.raw_stdio import RawHost
from tests.support.results import text_of
from tests.support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def test_call_takes_a_command_behind_two_dashes(cli: CommandLine) -> None:
    done = cli.run("call", "add", "a=1", "b=2", "--", *foreign_words(cli.folder))
    assert done.stdout == "3\n", done.stderr


def test_call_takes_an_address(cli: CommandLine) -> None:
    with served(foreign_words(cli.folder), cli.folder) as url:
        done = cli.run("call", url, "add", "a=1", "b=2")
    assert done.stdout == "3\n", done.stderr


def test_a_desktop_host_gets_a_task_of_a_command(cli: CommandLine) -> None:
    (cli.folder / "it.gate").touch()
    command = cli.command("stdio", "--", *foreign_words(cli.folder))
    with RawHost.started(command, cli.environment, cli.folder, cli.folder / "stdio.log") as host:
        task_id = host.call_as_task("write", name="it")
        ended = eventually(lambda: host.task(task_id), lambda task: task["status"] == "completed")
    assert text_of(ended["result"]) == "it is done"


def test_an_unreachable_server_is_named_in_one_line(cli: CommandLine) -> None:
    done = cli.run("call", "add", "a=1", "--", "no-such-command-anywhere")
    assert "there is no command 'no-such-command-anywhere'" in done.stderr
    assert "Traceback" not in done.stderr
    ended = cli.run("call", "add", "a=1", "--", sys.executable, "-c", "raise SystemExit(3)")
    assert "cannot be reached" in ended.stderr
    assert "Traceback" not in ended.stderr
