"""Most tests here fork their commands from a process that has imported them; the same commands are executed here."""

import sys

import pytest

from tests.support.command_line import CommandLine

pytestmark = pytest.mark.slow


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all are executed")
@pytest.mark.parametrize(
    "words",
    [
        ["doctor", "server.py"],
        ["tasks", "list"],
        ["tasks", "show", "x"],
        ["limits"],
        ["queues"],
        ["install", "nowhere"],
    ],
    ids=" ".join,
)
def test_a_command_says_the_same_when_it_is_executed(cli: CommandLine, words: list[str]) -> None:
    forked = cli.run(*words)
    cli.forks = False
    executed = cli.run(*words)
    assert (forked.returncode, forked.stdout) == (executed.returncode, executed.stdout)
    assert forked.stderr == executed.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all are executed")
def test_a_forked_command_looks_like_one_that_was_executed(cli: CommandLine) -> None:
    with cli.started("serve", "server.py", "--port", "0") as server:
        server.first_line()
        found = cli.processes("taskmill serve server.py --port 0")
        assert list(found) == [server.process.pid], "its words and its variables are in /proc"
        assert server.end() == 0
    assert cli.processes() == {}
