"""`taskmill call` and `run` fork their server and their workers from a process that has imported what they need.

They are as separate as processes that are executed: what ends one of them ends no other, and none outlives the command.
"""

import os
import signal
import subprocess
import sys

import pytest

from tests.support.command_line import CommandLine
from tests.support.waiting import WAIT_SECONDS, eventually

SERVER = '''
import asyncio
import json
import os
import sys
from multiprocessing import get_context
from pathlib import Path

from taskmill.server import Context, TaskConfig, TaskServer

mcp = TaskServer("Forked")
sys.stderr.write(f"loaded by {os.getpid()}\\n")  # at once: two processes write


def square(number: int) -> int:
    return number * number


@mcp.tool(task=True)
def facts() -> str:
    """What the worker is."""
    return json.dumps({
        "program": sys.orig_argv,
        "path": sys.path,
        "input": os.readlink("/proc/self/fd/0"),
        "session": os.getsid(0) == os.getpid(),
    })


@mcp.tool(task=True)
def pool() -> list[int]:
    """Use processes of its own."""
    with get_context("spawn").Pool(1) as workers:
        return workers.map(square, [2, 3])


@mcp.tool(task=TaskConfig(retries=3, poll_interval=0.1))
async def mark(gate: str, ctx: Context) -> str:
    """Wait for a file."""
    await ctx.report_progress(1, 2, f"attempt {ctx.attempt}")
    while not Path(gate).exists():
        await asyncio.sleep(0.02)
    return f"attempt {ctx.attempt}"
'''
PROGRAM = """
import asyncio, os, signal, sys, threading
from taskmill.cli.errors import CommandFailed
from taskmill.cli.processes.child import Child
from taskmill.cli.processes.prepared import prepare

def run(words):
    from taskmill.cli.commands import app
    app(words)
"""


def program(text: str) -> subprocess.CompletedProcess[str]:
    """A process of its own: in this one there are threads, and a fork of it would be another pytest."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM + text], capture_output=True, text=True, check=False, timeout=WAIT_SECONDS
    )


@pytest.fixture
def cli(cli: CommandLine) -> CommandLine:
    cli.write("server.py", SERVER)
    cli.forks = False  # a command that a person starts has imported nothing
    return cli


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere programs are executed")
class TestTheProcessesOfACall:
    def test_server_and_worker_are_forked_and_look_as_if_they_were_executed(self, cli: CommandLine) -> None:
        done = cli.run("call", "server.py", "facts")

        assert done.returncode == 0, done.stderr
        assert '"call", "server.py"' in done.stdout, "its imports were those of the command"
        assert f'"{os.path.dirname(sys.executable)}"' not in done.stdout, "the folder of the command is not on the path"
        assert '"input": "/dev/null"' in done.stdout
        assert '"session": true' in done.stdout
        assert len({line for line in done.stderr.splitlines() if line.startswith("loaded by")}) == 2

    def test_those_of_run_are_forked_too(self, cli: CommandLine) -> None:
        with cli.started("run", "server.py", "--port", "0", "--workers", "2") as command:
            url = command.url()
            words = [line.split()[1:4] for line in cli.processes("taskmill.cli.main").values()]
            assert sorted(words) == [["-m", "taskmill.cli.main", role] for role in ("serve", "worker", "worker")]
            cli.forks = True
            assert '"run", "server.py"' in cli.run("call", "--url", url, "facts").stdout
            assert command.end() == 0
        assert cli.processes() == {}

    def test_their_command_lines_name_their_roles(self, cli: CommandLine) -> None:
        with cli.started("call", "server.py", "mark", "gate=gate") as call:
            eventually(lambda: "attempt 1" in call.log.read_text())
            lines = cli.processes("taskmill.cli.main").values()
            assert sorted(line.split()[3] for line in lines) == ["serve", "worker"]

    def test_a_tool_may_spawn_processes(self, cli: CommandLine) -> None:
        done = cli.run("call", "server.py", "pool", "--json")

        assert done.returncode == 0, done.stderr
        assert '"result": [\n      4,\n      9\n    ]' in done.stdout

    @pytest.mark.parametrize(("victim", "attempt"), [("worker", 2), ("serve", 1)])
    def test_one_that_is_killed_is_replaced_and_the_call_has_its_result(
        self, cli: CommandLine, victim: str, attempt: int
    ) -> None:
        role = f"taskmill.cli.main {victim}"
        with cli.started("call", "server.py", "mark", "gate=gate") as call:
            eventually(lambda: "attempt 1" in call.log.read_text())
            (killed,) = cli.processes(role)
            os.kill(killed, signal.SIGKILL)
            eventually(lambda: set(cli.processes(role)) - {killed})
            (cli.folder / "gate").touch()
            assert call.process.wait(WAIT_SECONDS) == 0
            assert call.process.stdout is not None
            assert call.process.stdout.read() == f"attempt {attempt}\n"
        assert cli.processes() == {}

    def test_an_interrupt_while_it_imports_is_130_without_a_traceback(self, cli: CommandLine) -> None:
        cli.write("slow/taskmill_slow.pth", "")
        hold = "import sys, time\nclass Hold:\n    def find_spec(self, name, path=None, target=None):\n"
        hold += (
            "        if name == 'uvicorn':\n            open('importing', 'w').close()\n            time.sleep(60)\n"
        )
        cli.write("slow/sitecustomize.py", hold + "sys.meta_path.insert(0, Hold())\n")
        with cli.started("call", "server.py", "facts", PYTHONPATH=str(cli.folder / "slow")) as call:
            eventually((cli.folder / "importing").exists)
            call.process.send_signal(signal.SIGINT)
            assert call.process.wait(WAIT_SECONDS) == 130
            assert "Traceback" not in call.log.read_text()
        assert cli.processes() == {}


def test_a_process_with_threads_forks_none() -> None:
    done = program(
        "ended = threading.Event()\nthreading.Thread(target=ended.wait).start()\nprint(prepare(2, run))\nended.set()\n"
    )

    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_no_process_is_forked_on_macos() -> None:
    done = program("sys.platform = 'darwin'\nprint(prepare(2, run))\n")

    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere programs are executed")
class TestAPreparedProcess:
    def test_one_that_died_before_it_was_needed_is_replaced_by_a_program(self) -> None:
        done = program(
            "(one,) = prepare(1, run)\n"
            "os.kill(one.pid, signal.SIGKILL)\n"
            "os.waitid(os.P_PID, one.pid, os.WEXITED | os.WNOWAIT)\n"
            "child = Child('worker', ['no_such.py'], prepared=one)\n"
            "try:\n    asyncio.run(child.start())\n"
            "except CommandFailed as failed:\n    print(failed.failure.message, child.pid != one.pid)\n"
        )

        assert done.stdout == "There is no file no_such.py. True\n", done.stderr

    def test_one_that_is_not_needed_ends_with_the_command(self) -> None:
        done = program(
            "print(*(one.pid for one in prepare(2, run)), flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n"
        )

        assert done.returncode == -signal.SIGKILL
        for pid in done.stdout.split():
            eventually(lambda pid=pid: not os.path.exists(f"/proc/{pid}"))

    def test_a_failure_in_it_is_reported_to_the_command(self) -> None:
        done = program(
            "(one,) = prepare(1, run)\n"
            "child = Child('serve', ['no_such.py'], prepared=one)\n"
            "try:\n    asyncio.run(child.start())\n"
            "except CommandFailed as failed:\n    print(failed.failure.message, child.pid == one.pid)\n"
        )

        assert done.stdout == "There is no file no_such.py. True\n", done.stderr
