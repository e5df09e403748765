"""What surrounds a command and is wrong: a full or closed output, an address that is none, capitals."""

import subprocess

import pytest

from tests.support.command_line import CommandLine
from tests.support.waiting import WAIT_SECONDS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def shell(cli: CommandLine, redirection: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command whose standard output is redirected as a shell does it."""
    script = f'exec "$@" {redirection}'
    return subprocess.run(
        ["/bin/sh", "-c", script, "sh", *cli.command(*words)],
        env=cli.environment | environment,
        cwd=cli.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )


@pytest.mark.parametrize("words", [["doctor"], ["--help"], ["--version"]])
def test_a_full_disk_behind_the_output_is_one_line(cli: CommandLine, words: list[str]) -> None:
    done = shell(cli, ">/dev/full", *words)
    assert (done.returncode, done.stderr) == (
        1,
        "taskmill: The output could not be written: No space left on device.\n",
    )


def test_a_closed_output_takes_nothing_and_breaks_nothing(cli: CommandLine) -> None:
    done = shell(cli, ">&-", "call", "server.py", "add", "a=1", "b=2")
    assert "Traceback" not in done.stderr
    assert done.returncode == 0


def test_closed_errors_do_not_turn_up_in_the_output(cli: CommandLine) -> None:
    done = shell(cli, "2>&-", "call", "nowhere.py", "add")
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize("words", [["run", "--port", "0"], ["serve", "--port", "0"], ["worker"]])
def test_an_address_that_is_none_is_one_line(cli: CommandLine, words: list[str]) -> None:
    done = cli.run(words[0], "server.py", *words[1:], "--redis-url", "localhost:6379")
    assert done.returncode == 2
    assert "is not a Redis address. Write redis://" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_level_in_capitals_is_a_level(cli: CommandLine) -> None:
    assert cli.run("doctor", TASKMILL_LOG_LEVEL="DEBUG").returncode == 0
