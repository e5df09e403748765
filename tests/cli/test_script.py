"""`python server.py`, `python -m package.server` and `python -m taskmill`: what `mcp.run()` in a file starts."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine, PythonLine, Started
from tests.support.raw_stdio import RawHost
from tests.support.waiting import WAIT_SECONDS, eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

TOOLS = """
from taskmill import TaskConfig, TaskServer

mcp = TaskServer("Script")

@mcp.tool
def add(a: int, b: int) -> int:
    return a + b

@mcp.tool(task=TaskConfig(poll_interval=0.1))
async def double(n: int) -> int:
    return n * 2

"""
GUARDED = TOOLS + "if __name__ == '__main__':\n    mcp.run({})\n"
UNGUARDED = TOOLS + "mcp.run({})\n"


def is_http_server(cli: CommandLine, command: Started) -> None:
    line = command.first_line()
    assert "double (task)" in line
    assert cli.run("call", "--url", line.split()[1], "double", "n=4").stdout == "8\n"
    assert command.end() == 0
    assert cli.processes() == {}


@pytest.mark.parametrize("transport", ["http", "streamable-http"])
def test_a_file_that_runs_over_http_starts_what_run_starts(
    cli: CommandLine, python: PythonLine, transport: str
) -> None:
    cli.write("server.py", GUARDED.format(f"transport={transport!r}, port=0, path='/tools'"))
    with python.started("server.py") as command:
        is_http_server(cli, command)


def test_a_file_without_a_guard_is_started_once(cli: CommandLine, python: PythonLine) -> None:
    """The processes that it starts run the file, too."""
    cli.write("server.py", UNGUARDED.format("'http', port=0"))
    with python.started("server.py") as command:
        is_http_server(cli, command)


def test_a_module_of_a_package_starts_by_its_name(cli: CommandLine, python: PythonLine) -> None:
    cli.write("shop/__init__.py", "")
    cli.write("shop/prices.py", "")
    cli.write("shop/tools.py", "from . import prices\n" + GUARDED.format("'http', port=0"))
    with python.started("-m", "shop.tools") as command:
        is_http_server(cli, command)


@pytest.mark.parametrize("text", [GUARDED, UNGUARDED], ids=["guarded", "unguarded"])
@pytest.mark.parametrize("options", ["", "transport='stdio'"])
def test_a_file_that_runs_starts_what_stdio_starts(cli: CommandLine, text: str, options: str) -> None:
    """With a worker, on the embedded Redis."""
    cli.write("server.py", text.format(options))
    command = [sys.executable, "server.py"]
    with RawHost.started(command, cli.environment, cli.folder, cli.folder / "stdio.log") as host:
        task_id = host.call_as_task("double", n=4)
        eventually(lambda: host.task(task_id)["status"] == "completed")
        assert host.task(task_id)["result"]["structuredContent"] == {"result": 8}


@pytest.mark.parametrize(
    ("options", "expected_text"),
    [
        ("'carrier pigeon'", "knows no transport 'carrier pigeon': write 'stdio', 'http' or 'streamable-http'."),
        ("'http', event_store=None", "takes host, port, path and allowed_hosts, not event_store"),
        ("port=3", "over standard input and output takes no port."),
    ],
)
def test_options_that_cannot_be_are_one_line(
    cli: CommandLine, python: PythonLine, options: str, expected_text: str
) -> None:
    cli.write("server.py", GUARDED.format(options))
    done = python.run("server.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert expected_text in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_workers_cannot_find_says_where_to_put_it(cli: CommandLine, python: PythonLine) -> None:
    cli.write("server.py", "from taskmill import TaskServer\ndef main():\n    TaskServer('x').run()\nmain()\n")
    done = python.run("server.py")
    assert done.returncode == 2
    assert "at the top level of the file" in done.stderr
    assert "taskmill run file.py:create" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_one_line(cli: CommandLine, python: PythonLine) -> None:
    cli.write("server.py", GUARDED.format("'http', port=0"))
    with python.started("server.py") as command:
        port = command.url().split(":")[2].split("/")[0]
        done = cli.run("run", "server.py", "--port", port)
    assert done.returncode == 1
    assert "Choose another one with --port" in done.stderr
    assert "Traceback" not in done.stderr


def test_python_m_taskmill_is_the_command_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "taskmill", "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("taskmill ")


def test_importing_the_package_loads_no_room() -> None:
    """The command line imports it at every start; an author takes `TaskServer` from it."""
    code = (
        "import sys, taskmill; before = set(sys.modules); from taskmill import TaskServer, Context, TaskConfig, Retry;"
        "sys.exit('taskmill.server' in before or TaskServer.__module__ != 'taskmill.server.task_server')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=WAIT_SECONDS)


POOL = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from joblib import Parallel, delayed

from taskmill import TaskServer

mcp = TaskServer("Pools")

@dataclass
class Box:
    n: int

def double(box: Box) -> Box:
    return Box(box.n * 2)

def run(kind: str) -> int:
    if kind == "joblib":
        return Parallel(n_jobs=2)(delayed(double)(Box(n)) for n in (1, 2, 4))[2].n
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(kind)) as pool:
        return pool.submit(double, Box(4)).result().n

@mcp.tool()
def now(kind: str) -> int:
    return run(kind)

@mcp.tool(task=True)
def later(kind: str) -> int:
    return run(kind)
"""


@pytest.mark.parametrize("kind", ["spawn", "forkserver", "joblib"])
@pytest.mark.parametrize("tool", ["now", "later"])
@pytest.mark.parametrize("file", ["my-tools.py", "shop/tools.py"])
def test_processes_that_a_tool_starts_find_the_files_functions(
    cli: CommandLine, kind: str, tool: str, file: str
) -> None:
    cli.write("shop/__init__.py", "")
    cli.write(file, POOL)
    done = cli.run("call", file, tool, f"kind={kind}")
    assert done.stdout == "8\n", done.stderr
