"""Tools in the foreground that start processes: the signals of the server are not theirs."""

import json
import subprocess
import sys
import urllib.request

import pytest

from tests.support.command_line import SERVER, CommandLine
from tests.support.processes import lives
from tests.support.raw_stdio import RawHost
from tests.support.results import text_of
from tests.support.waiting import WAIT_SECONDS

FORKING = '''
import multiprocessing, time
FORK = multiprocessing.get_context("fork")
left = []

@mcp.tool()
def helpers() -> str:
    """Start two helpers and end them; their exit codes."""
    started = [FORK.Process(target=time.sleep, args=(3600,)) for _ in range(2)]
    for helper in started:
        helper.start()
        helper.terminate()
    for helper in started:
        helper.join(30)
    return " ".join(str(helper.exitcode) for helper in started)

@mcp.tool()
def forget() -> str:
    """Start a pool and forget it; its processes."""
    left.append(FORK.Pool(2))
    return " ".join(str(child.pid) for child in multiprocessing.active_children())

@mcp.tool(task=QUICK)
def forget_in_a_task() -> str:
    """The same in a worker."""
    return forget()
'''


@pytest.fixture
def forking(cli: CommandLine) -> CommandLine:
    cli.write("server.py", SERVER + FORKING)
    return cli


def call(url: str, tool: str) -> str:
    """One call over HTTP, by a client without tasks."""
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": {}}}
    body["params"]["_meta"] = {  # type: ignore[index]
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": tool,
    }
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        answer = response.read().decode()
    data = answer.rpartition("data: ")[2] if answer.startswith(("event:", "data:", ":", "id:")) else answer
    return text_of(json.loads(data)["result"])


def test_a_tool_that_ends_its_helpers_does_not_end_the_server(forking: CommandLine) -> None:
    serving = "serve server.py"
    with forking.started(*serving.split(), "--port", "0") as server:
        url = server.url()
        assert [call(url, "helpers") for _ in range(2)] == ["-15 -15"] * 2
        children = [int(word) for word in call(url, "forget").split()]
        assert children
        assert len(forking.processes(serving)) == 1 + len(children)
        assert server.end() == 0
        assert forking.processes(serving) == {}


def test_a_worker_ends_with_the_pools_that_its_tools_forgot(forking: CommandLine) -> None:
    with forking.started("run", "server.py", "--port", "0") as command:
        children = call(command.url(), "forget_in_a_task").split()
        assert len(forking.processes("cli.main worker")) == 1 + len(children)
        assert command.end() == 0
        assert forking.processes("cli.main worker") == {}


def test_a_tool_that_ends_its_helpers_is_answered_on_stdio(forking: CommandLine) -> None:
    command, log = forking.command("stdio", "server.py"), forking.folder / "stdio.log"
    with RawHost.started(command, forking.environment, forking.folder, log) as host:
        host.initialize()
        texts = [text_of(host.request("tools/call", {"name": "helpers", "arguments": {}})) for _ in range(2)]
        assert texts == ["-15 -15"] * 2
        children = [int(word) for word in text_of(host.request("tools/call", {"name": "forget"})).split()]
        assert children
        assert host.process.stdin is not None
        host.process.stdin.close()
        try:
            assert host.process.wait(WAIT_SECONDS) == 0
        except subprocess.TimeoutExpired:
            pytest.fail(log.read_text())
    assert [pid for pid in children if lives(pid)] == []


def test_processes_of_joblib_leave_nothing_in_shared_memory() -> None:
    """They stay for the next call. At the end their tracker would complain of what they have left."""
    code = (
        "import math; from joblib import Parallel, delayed; from taskmill.cli.processes.exit import exit_now;"
        "Parallel(n_jobs=2)(delayed(math.sqrt)(n) for n in range(3)); exit_now()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
