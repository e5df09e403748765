"""Whose code runs a task: that of the same file and version, also beside others in one folder or on one Redis."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.command_line import CommandLine
from tests.support.waiting import WAIT_SECONDS, eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # each command is a stack of processes

WHO = """
from taskmill.server import TaskConfig, TaskServer

mcp = TaskServer("Tools")

@mcp.tool(task=TaskConfig(poll_interval=0.1))
async def who() -> str:
    return "{answer}"
"""


def write(cli: CommandLine, name: str, answer: str) -> None:
    cli.write(name, WHO.format(answer=answer))


def test_a_call_of_another_file_beside_a_running_server_runs_the_files_own_tool(cli: CommandLine) -> None:
    write(cli, "one.py", "one")
    write(cli, "other.py", "other")
    with cli.started("run", "one.py", "--port", "0") as command:
        url = command.url()
        assert [cli.run("call", "other.py", "who").stdout for _ in range(3)] == ["other\n"] * 3
        assert cli.run("call", "--url", url, "who").stdout == "one\n"


def test_a_call_of_an_edited_file_runs_the_new_version_beside_the_old_one(cli: CommandLine) -> None:
    write(cli, "one.py", "old")
    with cli.started("run", "one.py", "--port", "0") as command:
        command.url()
        write(cli, "one.py", "the new one")  # not of the same size: Python's bytecode of a file is as old as its second
        assert [cli.run("call", "one.py", "who").stdout for _ in range(3)] == ["the new one\n"] * 3


def test_calls_at_the_same_time_each_get_their_own_result_and_their_own_lines(cli: CommandLine) -> None:
    write(cli, "one.py", "one")
    cli.write(
        "other.py", WHO.format(answer="other").replace("    return", "    raise ValueError('of other.py')\n    return")
    )
    with ThreadPoolExecutor() as pool:
        one, other = pool.map(lambda name: cli.run("call", name, "who"), ["one.py", "other.py"])
    assert (one.returncode, one.stdout) == (0, "one\n")
    assert other.returncode == 1
    assert "ValueError" not in one.stderr


def test_servers_of_two_names_on_one_redis_run_their_own_tasks(cli: CommandLine, redis_url: str) -> None:
    write(cli, "one.py", "one")
    cli.write("other.py", WHO.format(answer="other").replace('"Tools"', '"Others"'))
    assert of_both(cli, redis_url) == ["one\n", "other\n"]


def test_servers_of_one_name_on_one_redis_are_told_apart_by_their_app(cli: CommandLine, redis_url: str) -> None:
    write(cli, "one.py", "one")
    write(cli, "other.py", "other")
    assert of_both(cli, redis_url, TASKMILL_APP="another-app") == ["one\n", "other\n"]


def test_servers_of_one_name_on_one_redis_leave_a_task_to_the_worker_that_has_its_tool(
    cli: CommandLine, redis_url: str
) -> None:
    """Two files whose authors chose the same name: a worker gives back what it does not know, and nothing is lost."""
    write(cli, "one.py", "one")
    cli.write("other.py", WHO.format(answer="other").replace("def who", "def whoever"))
    place = ("--redis-url", redis_url)
    with (
        cli.started("worker", "one.py", *place),
        cli.started("worker", "other.py", *place),
        cli.started("serve", "one.py", "--port", "0", *place) as server,
        cli.started("serve", "other.py", "--port", "0", *place) as other_server,
    ):
        urls = {"who": server.url(), "whoever": other_server.url()}
        for _ in range(3):
            answers = {tool: cli.run("call", "--url", url, tool).stdout for tool, url in urls.items()}
            assert answers == {"who": "one\n", "whoever": "other\n"}


def of_both(cli: CommandLine, redis_url: str, **of_other: str) -> list[str]:
    """What calls of both servers return, while a worker of each serves one Redis and the first server's is busy."""
    place = ("--redis-url", redis_url)
    with (
        cli.started("worker", "one.py", *place) as worker,
        cli.started("worker", "other.py", *place, **of_other) as other_worker,
        cli.started("serve", "one.py", "--port", "0", *place) as server,
        cli.started("serve", "other.py", "--port", "0", *place, **of_other) as other_server,
    ):
        eventually(lambda: worker.log.read_text().count("worker.started") == 2)
        assert other_worker.process.poll() is None
        urls = [server.url(), other_server.url()]
        results = [[cli.run("call", "--url", url, "who").stdout for url in urls] for _ in range(2)]
        assert results[0] == results[1]
        return results[0]


def test_a_task_that_a_killed_call_left_is_run_by_the_next_command_of_its_file(cli: CommandLine) -> None:
    with cli.started("call", "server.py", "dig", "gate=gate") as call:
        eventually(lambda: "half of the hole" in call.log.read_text())
        call.process.kill()
        call.process.wait(WAIT_SECONDS)
    eventually(lambda: not cli.processes())
    (cli.folder / "gate").touch()
    with cli.started("run", "server.py", "--port", "0") as command:
        command.url()
        eventually(lambda: '"outcome": "completed"' in command.log.read_text())


def test_a_task_that_a_killed_worker_left_is_run_by_the_call_that_follows_it(cli: CommandLine) -> None:
    task_id = cli.run("call", "server.py", "dig", "gate=gate", "--detach", TASKMILL_LEASE="2").stdout.strip()
    for pid in cli.processes("taskmill.cli.main worker"):
        os.kill(pid, signal.SIGKILL)
    (cli.folder / "gate").touch()
    assert cli.run("call", "--attach", task_id, "server.py", TASKMILL_LEASE="2").stdout == "dug\n"
