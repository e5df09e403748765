"""`taskmill run`: starts everything with one command, restarts what dies, and leaves no process, however it ends."""

import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.support.command_line import CommandLine, is_ready, port_of
from tests.support.waiting import WAIT_SECONDS, eventually

CHILDREN = "taskmill.cli.main"


def children(cli: CommandLine, role: str) -> set[int]:
    return set(cli.processes(f"{CHILDREN} {role} "))


def only(pids: set[int]) -> int:
    (pid,) = pids
    return pid


def test_one_command_serves_and_runs_tasks_and_leaves_nothing(cli: CommandLine) -> None:
    cli.forks = False  # all is executed, as a person does it
    (cli.folder / "gate").touch()
    with cli.started("run", "server.py", "--port", "0") as command:
        line = command.first_line()
        url = line.split()[1]
        assert line.startswith("taskmill: http://127.0.0.1:")
        assert "dig (task)" in line
        assert cli.run("call", "--url", url, "dig", "gate=gate").stdout == "dug\n"
        assert command.end() == 0
    assert cli.processes() == {}


def test_each_queue_that_a_tool_names_has_a_worker(cli: CommandLine) -> None:
    cli.write(
        "server.py",
        "from taskmill.server import TaskConfig, TaskServer\n"
        "mcp = TaskServer('Tests')\n"
        "@mcp.tool(task=TaskConfig(queue='aside', poll_interval=0.1))\n"
        "async def aside() -> str:\n"
        "    return 'from aside'\n",
    )
    with cli.started("run", "server.py", "--port", "0") as command:
        assert cli.run("call", "--url", command.url(), "aside").stdout == "from aside\n"
        assert len(children(cli, "worker")) == 2


def test_ctrl_c_is_for_the_command_alone(cli: CommandLine) -> None:
    """Children have their own sessions, so a terminal's Ctrl-C does not reach them: the command stops them in order."""
    with cli.started("run", "server.py", "--port", "0") as command:
        command.url()
        sessions = {os.getsid(pid) for pid in cli.processes(CHILDREN)}
        assert os.getsid(command.process.pid) not in sessions
        assert command.end(signal.SIGINT) == 0


def test_a_worker_that_dies_is_replaced(cli: CommandLine) -> None:
    with cli.started("run", "server.py", "--port", "0", "--workers", "2") as command:
        url = command.url()
        before = children(cli, "worker")
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: len(children(cli, "worker") - before) == len(before))
        (cli.folder / "gate").touch()
        assert cli.run("call", "--url", url, "dig", "gate=gate").stdout == "dug\n"
        assert "child.ended" in command.log.read_text()


def test_a_server_that_dies_comes_back_under_the_same_address(cli: CommandLine) -> None:
    with cli.started("run", "server.py", "--port", "0") as command:
        url = command.url()
        with cli.started("call", "--url", url, "dig", "gate=gate") as call:
            eventually(lambda: "half of the hole" in call.log.read_text())
            os.kill(only(children(cli, "serve")), signal.SIGKILL)
            eventually(lambda: is_ready(port_of(url)))
            (cli.folder / "gate").touch()
            assert call.first_line() == "dug"
            assert call.process.wait(WAIT_SECONDS) == 0


def test_a_killed_command_leaves_no_child(cli: CommandLine) -> None:
    cli.forks = False
    with cli.started("run", "server.py", "--port", "0") as command:
        url = command.url()
        cli.run("call", "--url", url, "dig", "gate=never", "--detach")
        command.process.kill()
        command.process.wait(WAIT_SECONDS)
        assert eventually(lambda: not cli.processes())


@pytest.mark.parametrize(
    ("text", "code", "expected_text"),
    [
        ("x = 1\n", 1, "taskmill: server.py has no server object at its top level."),
        ("1 / 0\n", 1, "ZeroDivisionError: division by zero"),
        ("from taskmill.server import TaskServer\nmcp = TaskServer('x')\n@mcp.tool(task=3)\n", 1, "invalid syntax"),
    ],
)
def test_a_file_that_cannot_work_is_reported_once(cli: CommandLine, text: str, code: int, expected_text: str) -> None:
    cli.write("server.py", text)
    done = cli.run("run", "server.py", "--port", "0")
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.count(expected_text) == 1
    assert cli.processes() == {}


def test_a_child_that_cannot_start_is_reported_once(cli: CommandLine) -> None:
    done = cli.run("run", "server.py", "--port", "0", "--host", "0.0.0.0")
    assert done.returncode == 1
    assert done.stderr.count("--allowed-hosts") == 1
    done = cli.run("run", "server.py", "--port", "99999")
    assert done.returncode == 2
    assert done.stderr.count("--port") == 1
    assert cli.processes() == {}


@pytest.mark.slow  # the start of Redis has ten seconds
@pytest.mark.timeout(120)
def test_a_missing_redis_ends_every_command_with_one_line_and_69(cli: CommandLine) -> None:
    nowhere = "redis://127.0.0.1:1"
    with ThreadPoolExecutor() as pool:
        commands = [["run", "--port", "0"], ["serve", "--port", "0"], ["worker"]]
        running = [
            pool.submit(cli.run, command, "server.py", "--redis-url", nowhere, *more) for command, *more in commands
        ]
        ended = [future.result() for future in running]
    line = f"taskmill: Redis at {nowhere} cannot be reached right now. Nothing was lost; try again in a moment.\n"
    assert [(done.returncode, done.stdout, done.stderr) for done in ended] == [(69, "", line)] * 3


def test_a_configured_redis_is_used(cli: CommandLine, redis_url: str) -> None:
    with cli.started("run", "server.py", "--port", "0", "--redis-url", redis_url) as command:
        assert cli.run("call", "--url", command.url(), "dig", "gate=server.py").stdout == "dug\n"
        assert not (cli.folder / ".taskmill").exists()
        children = psutil.Process(command.process.pid).children(recursive=True)
        assert len(children) >= 2
        shown = [child.cmdline() for child in children]
        assert [words for words in shown if redis_url in words] == [], "other users see it there, with its password"


def test_a_restart_keeps_the_tasks(cli: CommandLine) -> None:
    with cli.started("run", "server.py", "--port", "0") as command:
        task_id = cli.run("call", "--url", command.url(), "dig", "gate=gate", "--detach").stdout.strip()
    (cli.folder / "gate").touch()
    with cli.started("run", "server.py", "--port", "0") as command:
        assert cli.run("call", "--url", command.url(), "--attach", task_id).stdout == "dug\n"


def test_a_port_that_is_taken_is_refused_before_a_worker_starts(cli: CommandLine) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = cli.run("run", "server.py", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert done.stderr.startswith("taskmill: Cannot listen on 127.0.0.1 port ")
    assert not (cli.folder / ".taskmill").exists()


def test_a_port_that_is_none_is_refused_before_anything_starts(cli: CommandLine) -> None:
    done = cli.run("run", "server.py", "--port", "99999")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--port: should be less than or equal to 65535" in done.stderr
    assert not (cli.folder / ".taskmill").exists()


def test_the_first_ctrl_c_says_what_a_second_one_does(cli: CommandLine) -> None:
    with cli.started("run", "server.py", "--port", "0", TASKMILL_GRACE="30") as command:
        url = command.url()
        done = cli.run("call", "--url", url, "dig", "gate=never", "--detach")
        assert done.returncode == 0
        eventually(lambda: "running" in cli.run("tasks", "list").stdout)
        command.process.send_signal(signal.SIGINT)
        eventually(lambda: "Press Ctrl-C again to return them to their queue now." in command.log.read_text())
        assert command.end(signal.SIGINT) == 0
