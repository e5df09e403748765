"""A command in a bad place: a folder that cannot be written to, a user without a home, a terminal that is closed."""

import sys

import pytest

from tests.support.command_line import CommandLine, PythonLine, Screen
from tests.support.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

NO_FOLDER = "/sys/taskmill"
"""A directory that no one can make, root neither."""
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no /sys")


@on_linux
@pytest.mark.parametrize("words", [["run", "--port", "0"], ["serve", "--port", "0"], ["worker"], ["call"], ["stdio"]])
def test_a_folder_that_cannot_be_written_to_is_one_line_that_says_what_to_set(
    cli: CommandLine, words: list[str]
) -> None:
    tool = ["dig", "gate=x"] if words == ["call"] else []
    cli.environment |= {"TASKMILL_HOME": f"{NO_FOLDER}/data", "TASKMILL_LOG_LEVEL": "error"}
    done = cli.run(words[0], "server.py", *tool, *words[1:])
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert f"{NO_FOLDER}/data cannot hold the embedded Redis" in line
    assert "Choose another data directory with TASKMILL_HOME, or set TASKMILL_REDIS_URL" in line
    assert cli.processes() == {}


@on_linux
def test_a_file_that_starts_itself_says_the_same(cli: CommandLine, python: PythonLine) -> None:
    cli.write("own.py", "from server import mcp\nmcp.run('http', port=0)\n")
    done = python.run("own.py", TASKMILL_HOME=f"{NO_FOLDER}/data")
    assert done.returncode == 2
    assert "cannot hold the embedded Redis" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("home", [None, "nowhere", "/sys/nowhere"])
def test_commands_of_a_folder_need_no_home(cli: CommandLine, home: str | None) -> None:
    cli.environment.pop("HOME", None)
    cli.environment |= {} if home is None else {"HOME": home}
    assert cli.run("call", "server.py", "add", "a=1", "b=2").stdout == "3\n"
    assert not (cli.folder / "nowhere").exists()


@on_linux
@pytest.mark.parametrize(
    ("home", "fault"),
    [
        ("nowhere", "This user has no home directory: set TASKMILL_HOME to a directory for the data."),
        ("/sys/nowhere", "cannot hold the embedded Redis"),
    ],
)
def test_a_host_whose_user_has_no_home_learns_what_to_set(cli: CommandLine, home: str, fault: str) -> None:
    """`stdio` keeps its data below the user's home."""
    del cli.environment["TASKMILL_HOME"]
    cli.environment.pop("XDG_STATE_HOME", None)
    done = cli.run("stdio", "server.py", HOME=home)
    assert (done.returncode, done.stdout) == (2, "")
    assert fault in done.stderr
    assert "TASKMILL_HOME" in done.stderr
    assert "Traceback" not in done.stderr


@on_linux
@pytest.mark.parametrize(
    ("words", "home", "fault"),
    [
        (["install", "codex", "server.py", "--yes"], "/sys/nowhere", "Cannot write /sys/nowhere/.codex/config.toml"),
        (["install", "codex", "server.py", "--yes"], "nowhere", "HOME is 'nowhere', which is no absolute path"),
        (["--install-completion", "bash"], "/sys/nowhere", "/sys/nowhere: Operation not permitted"),
    ],
)
def test_what_is_written_into_a_home_that_is_none_is_one_line(
    cli: CommandLine, words: list[str], home: str, fault: str
) -> None:
    done = cli.run(*words, HOME=home)
    assert done.returncode in (1, 2)
    assert fault in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (cli.folder / "nowhere").exists()


@pytest.mark.parametrize("command", ["run", "dev"])
def test_a_terminal_that_is_closed_ends_all_and_loses_no_task(cli: CommandLine, command: str) -> None:
    screen = Screen(cli, [command, "server.py", "--port", "0"])
    screen.wait_for("tools: ")
    url = screen.shown.split("taskmill: ")[-1].split()[0]
    task_id = cli.run("call", "--url", url, "dig", "gate=gate", "--detach").stdout.strip()
    eventually(lambda: "half of the hole" in cli.run("tasks", "show", task_id).stdout)
    screen.hang_up()
    eventually(lambda: cli.processes() == {})
    cli.write("gate", "")
    again = cli.run("call", "--attach", task_id, "server.py")
    assert again.stdout == "dug\n", again.stderr


def test_a_terminal_that_is_closed_during_a_call_loses_no_task(cli: CommandLine) -> None:
    screen = Screen(cli, ["call", "server.py", "dig", "gate=gate"])
    screen.wait_for("half of the hole")
    screen.hang_up()
    eventually(lambda: cli.processes() == {})
    (row,) = cli.run("tasks", "list").stdout.splitlines()
    cli.write("gate", "")
    again = cli.run("call", "--attach", row.split("\t")[0], "server.py")
    assert again.stdout == "dug\n", again.stderr
