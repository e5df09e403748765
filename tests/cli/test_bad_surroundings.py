"""What surrounds a command and is wrong: a full or closed output, an address that is none, capitals."""

import re
import socket
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


@pytest.mark.parametrize(
    ("command", "flag", "variable", "value"),
    [
        ("run", "--redis-url", "TASKMILL_REDIS_URL", "localhost:6379"),
        ("worker", "--redis-url", "TASKMILL_REDIS_URL", "localhost:6379"),
        ("doctor", "--redis-url", "TASKMILL_REDIS_URL", "localhost:6379"),
        ("call", "--redis-url", "TASKMILL_REDIS_URL", "localhost:6379"),
        ("stdio", "--redis-url", "TASKMILL_REDIS_URL", "localhost:6379"),
        ("serve", "--port", "TASKMILL_PORT", "70000"),
        ("run", "--port", "TASKMILL_PORT", "70000"),
        ("serve", "--allowed-hosts", "TASKMILL_ALLOWED_HOSTS", "*"),
        ("serve", "--cors-origin", "TASKMILL_CORS_ORIGINS", "example"),
        ("worker", "--concurrency", "TASKMILL_CONCURRENCY", "0"),
        ("run", "--concurrency", "TASKMILL_CONCURRENCY", "0"),
        ("worker", "--grace", "TASKMILL_GRACE", "-1"),
        ("worker", "--queue", "TASKMILL_QUEUE", "a b"),
        ("worker", "--shard", "TASKMILL_SHARD", "nowhere"),
    ],
)
def test_a_wrong_setting_is_named_as_it_was_given(
    cli: CommandLine, command: str, flag: str, variable: str, value: str
) -> None:
    tool = ["add", "a=1", "b=2"] if command == "call" else []
    by_flag = cli.run(command, "server.py", *tool, flag, value)
    by_variable = cli.run(command, "server.py", *tool, **{variable: value})
    assert by_flag.returncode == by_variable.returncode
    assert by_flag.returncode in (1, 2)
    flag_text, variable_text = by_flag.stdout + by_flag.stderr, by_variable.stdout + by_variable.stderr
    assert flag in flag_text
    assert not re.search(rf"{variable}\b", flag_text)
    assert variable in variable_text
    assert not re.search(rf"{flag}\b", variable_text)


def test_a_taken_port_is_named_as_it_was_given(cli: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        by_flag = cli.run("serve", "server.py", "--port", port)
        by_variable = cli.run("serve", "server.py", TASKMILL_PORT=port)
    assert "Choose another one with --port; 0 takes any." in by_flag.stderr
    assert "Choose another one with TASKMILL_PORT; 0 takes any." in by_variable.stderr


@pytest.mark.parametrize("word", ["level", "form"])
def test_a_log_setting_that_is_none_lists_those_there_are(cli: CommandLine, word: str) -> None:
    variable = f"TASKMILL_LOG_{word.upper()}"
    serve = "serve", "server.py"
    for done in (cli.run(*serve, f"--log-{word}", "loud"), cli.run(*serve, **{variable: "loud"})):
        assert done.returncode == 2
        assert f"'--log-{word}' (env var: '{variable}'): 'loud' is not one of" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["run", "server.py", "--port", "abc"], "Invalid value for '--port': should be a valid integer"),
        (["tasks", "list", "--limit", "x"], "Invalid value for '--limit': should be a valid integer"),
        (["run", "server.py", "--workers", "0"], "Invalid value for '--workers': should be greater than or equal to 1"),
    ],
)
def test_a_word_of_a_wrong_type_is_refused_without_pydantics_text(
    cli: CommandLine, words: list[str], fault: str
) -> None:
    done = cli.run(*words)
    assert done.returncode == 2
    assert fault in done.stderr
    assert "Input" not in done.stderr
    assert "parse" not in done.stderr
