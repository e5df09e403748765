"""Commands with a TARGET that is no file of ours: real processes on both sides of Taskmill."""

import json
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


def test_doctor_says_whether_the_server_answers_and_how_many_tools_are_tasks(cli: CommandLine) -> None:
    words = foreign_words(cli.folder)
    assert "answers, and has 7 task tools" in cli.run("doctor", "--json", "--", *words).stdout
    some = cli.run("doctor", "--json", "--task", "re*", "--task", "write", "--", *words)
    assert "answers, and has 3 task tools" in some.stdout
    gone = cli.run("doctor", "--json", "http://127.0.0.1:9/mcp")
    assert gone.returncode == 1
    assert "cannot be reached" in gone.stdout


def test_several_servers_of_a_file_have_prefixes_and_their_environment(cli: CommandLine) -> None:
    command, *args = foreign_words(cli.folder)
    entry = {"command": command, "args": args, "env": {"GREETING": "${FROM_OUTSIDE}"}}
    cli.write("servers.json", json.dumps({"mcpServers": {"One": entry, "two-b": entry}}))
    done = cli.run("call", "servers.json", "two_b_add", "a=1", "b=2", FROM_OUTSIDE="hello")
    assert done.stdout == "3\n", done.stderr
    missing = cli.run("call", "servers.json", "one_add", "a=1", "b=2")
    assert "needs the environment variable FROM_OUTSIDE, which is not set" in missing.stderr


def test_the_configuration_of_fastmcps_own_command_is_refused_with_the_file_that_it_names(cli: CommandLine) -> None:
    cli.write("fastmcp.json", json.dumps({"source": {"path": "tools/mine.py", "entrypoint": "mcp"}}))
    refused = cli.run("call", "fastmcp.json", "add", "a=1")
    assert refused.stderr.endswith("Name the server's file instead: tools/mine.py:mcp\n"), refused.stderr


def test_a_secret_is_on_no_command_line_and_in_no_log(cli: CommandLine) -> None:
    secret = "sesame-7f3a"
    with (
        served(foreign_words(cli.folder), cli.folder) as url,
        cli.started("run", url, "--port", "0", "--upstream-header", "X-Key: ${KEY}", KEY=secret) as command,
    ):
        assert command.url()
        assert not [line for line in cli.processes().values() if secret in line]
        assert secret not in command.log.read_text()
