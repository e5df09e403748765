"""A server whose tools are all plain: it starts and serves without a Redis, however it is started."""

import json
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine, PythonLine, Started, is_ready, port_of
from tests.support.raw_stdio import RawHost

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PLAIN = """
from contextlib import asynccontextmanager

from taskmill import Context, TaskServer

@asynccontextmanager
async def lifespan(server):
    yield {"factor": 10}

mcp = TaskServer("Plain", lifespan=lifespan)

@mcp.tool
def add(a: int, b: int) -> int:
    return a + b

@mcp.tool
def scaled(n: int, ctx: Context) -> int:
    return n * ctx.lifespan["factor"]

"""
TASK = """
@mcp.tool(task=True)
async def later(n: int) -> int:
    return n * 2

"""
RUNS = "if __name__ == '__main__':\n    mcp.run({})\n"
LATE = """
from contextlib import asynccontextmanager

from taskmill import TaskServer

@asynccontextmanager
async def lifespan(server):
    server.add_tool(later, task=True)
    yield

async def later() -> str:
    return "done"

mcp = TaskServer("Late", lifespan=lifespan)
"""


@pytest.fixture
def plain(cli: CommandLine) -> CommandLine:
    """A plain server, where no embedded Redis could keep its data."""
    cli.write("plain.py", PLAIN)
    cli.environment["TASKMILL_HOME"] = str(cli.write("no-directory", ""))
    return cli


def serves(cli: CommandLine, command: Started) -> None:
    """Both revisions of the protocol, the API, and readiness."""
    url = command.url()
    assert cli.run("call", "--url", url, "add", "a=1", "b=2").stdout == "3\n"
    assert cli.run("call", "--url", url, "scaled", "n=4").stdout == "40\n"
    assert session_call(url, "add", a=3, b=4)["structuredContent"] == {"result": 7}
    assert is_ready(port_of(url))
    done = cli.run("tasks", "list", "--json", "--url", url.removesuffix("/mcp"))
    assert json.loads(done.stdout) == {"tasks": [], "next_cursor": None}, done.stderr
    unknown = cli.run("tasks", "show", "x" * 43, "--url", url.removesuffix("/mcp"))
    assert unknown.returncode == 1
    assert "Task not found" in unknown.stderr
    assert cli.processes("redis") == cli.processes("valkey") == cli.processes("supervisor") == {}
    assert command.end() == 0


def session_call(url: str, tool: str, **arguments: int) -> dict[str, object]:
    """The result of a call in a session, as clients before 2026 make it."""
    session = ""

    def post(message: dict[str, object]) -> str:
        nonlocal session
        headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
        headers |= {"mcp-session-id": session, "mcp-protocol-version": "2025-11-25"} if session else {}
        request = urllib.request.Request(url, json.dumps({"jsonrpc": "2.0", **message}).encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            session = response.headers.get("mcp-session-id", session)
            return response.read().decode()

    hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    post({"id": 1, "method": "initialize", "params": hello})
    post({"method": "notifications/initialized"})
    text = post({"id": 2, "method": "tools/call", "params": {"name": tool, "arguments": arguments}})
    data = [line.removeprefix("data:") for line in text.splitlines() if line.startswith("data:") and "result" in line]
    result: dict[str, object] = json.loads(data[0] if data else text)["result"]
    return result


@pytest.mark.parametrize("command", ["run", "serve", "dev"])
def test_a_server_without_task_tools_serves_without_a_redis(plain: CommandLine, command: str) -> None:
    with plain.started(command, "plain.py", "--port", "0") as started:
        serves(plain, started)
    assert plain.processes() == {}


def test_a_call_of_a_server_without_task_tools_starts_no_redis(plain: CommandLine) -> None:
    done = plain.run("call", "plain.py", "scaled", "n=4")
    assert (done.stdout, done.stderr, done.returncode) == ("40\n", "", 0)


@pytest.mark.parametrize("words", [["-m", "taskmill", "stdio", "plain.py"], ["runs.py"]])
def test_a_host_starts_a_server_without_task_tools_without_a_redis(plain: CommandLine, words: list[str]) -> None:
    plain.write("runs.py", PLAIN + RUNS.format(""))
    command = [sys.executable, *words]
    with RawHost.started(command, plain.environment, plain.folder, plain.folder / "stdio.log") as host:
        called = host.request("tools/call", {"name": "add", "arguments": {"a": 1, "b": 2}})
        assert called["structuredContent"] == {"result": 3}
        assert plain.processes("worker") == plain.processes("supervisor") == {}


def test_a_file_that_runs_over_http_needs_no_redis_either(plain: CommandLine, python: PythonLine) -> None:
    plain.write("runs.py", PLAIN + RUNS.format("'http', port=0"))
    with python.started("runs.py") as started:
        serves(plain, started)


def test_a_reload_that_adds_the_first_task_tool_starts_redis_and_worker(cli: CommandLine) -> None:
    cli.write("plain.py", PLAIN)
    with cli.started("run", "plain.py", "--port", "0", "--reload") as command:
        url = command.url()
        assert cli.processes("supervisor") == cli.processes("worker") == {}
        cli.write("plain.py", PLAIN + TASK)
        assert command.url() == url, "the address stays"
        assert cli.run("call", "--url", url, "later", "n=4").stdout == "8\n"
        assert is_ready(port_of(url))
        cli.write("plain.py", PLAIN)
        assert command.url() == url
        assert cli.run("call", "--url", url, "add", "a=1", "b=2").stdout == "3\n"
        assert command.end() == 0
    assert cli.processes() == {}


def test_a_worker_of_a_server_without_task_tools_says_that_there_is_nothing_to_run(plain: CommandLine) -> None:
    done = plain.run("worker", "plain.py")
    assert done.returncode == 1
    assert "plain.py has no task tools" in done.stderr
    assert "task=True" in done.stderr


def test_the_first_task_tool_in_a_lifespan_is_refused_with_what_to_do(cli: CommandLine, tmp_path: Path) -> None:
    """The server has been started without a Redis by then."""
    cli.write("late.py", LATE)
    done = cli.run("serve", "late.py", "--port", "0")
    assert done.returncode == 1
    assert "Register one task tool at the top level of the file, or set TASKMILL_REDIS_URL." in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_needs_no_redis_for_a_server_without_task_tools(plain: CommandLine) -> None:
    done = plain.run("doctor", "plain.py", "--json")
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 0, done.stdout
    assert findings["redis"]["level"] == "ok"
    assert "not needed" in findings["redis"]["detail"]
