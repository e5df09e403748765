"""`taskmill serve` and `taskmill worker` as a person starts them, and a stock arq worker beside them."""

import http.client
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from taskmill.cli.serving.http_process import trusted_proxies
from taskmill.engine.errors import SettingsError
from taskmill.server.settings import ServerSettings
from taskmill.store.settings import read_settings
from tests.support.command_line import CommandLine, PythonLine, is_ready, port_of
from tests.support.raw_http import RawClient
from tests.support.redis_server import free_port
from tests.support.waiting import WAIT_SECONDS, eventually


class TestServe:
    def test_port_0_takes_a_free_one_and_prints_it(self, cli: CommandLine) -> None:
        cli.forks = False  # executed, as a person does it
        with cli.started("serve", "server.py", "--port", "0") as server:
            line = server.first_line()
            assert line.endswith("tools: add, echo, figures, dig (task), greet (task), stumble (task)")
            port = port_of(line.split()[1])
            assert is_ready(port)
            assert server.end() == 0
            assert not is_ready(port)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_it_in_order(self, cli: CommandLine, number: int) -> None:
        cli.write("server.py", LIFESPAN)
        with cli.started("serve", "server.py", "--port", "0") as server:
            server.first_line()
            assert server.end(number) == 0
        assert (cli.folder / "lifespan").read_text() == "in out "

    @pytest.mark.parametrize(("how", "code"), [("serve", 0), ("uvicorn", -signal.SIGTERM)])
    def test_open_event_streams_are_ended_whole_and_keep_no_server_from_its_exit(
        self, cli: CommandLine, python: PythonLine, redis_url: str, how: str, code: int
    ) -> None:
        """uvicorn by itself waits for open responses without end, and `taskmill serve` would cut them off."""
        port = str(free_port())
        if how == "serve":
            command = cli.started("serve", "server.py", "--port", port, "--redis-url", redis_url)
        else:
            words = ("-m", "uvicorn", "--factory", "server:mcp.http_app", "--port", port)
            command = python.started(*words, TASKMILL_REDIS_URL=redis_url)
        with command as server:
            eventually(lambda: is_ready(int(port)))
            task_id = RawClient(f"http://127.0.0.1:{port}/mcp").call_tool("dig", {"gate": "never"})["taskId"]
            reader = http.client.HTTPConnection("127.0.0.1", int(port), timeout=WAIT_SECONDS)
            reader.request("GET", f"/api/tasks/{task_id}/events")
            response = reader.getresponse()
            seen = response.readline()

            assert server.end() == code

            assert b"event: create" in seen + response.read(), "the end of the response is not missing"

    def test_a_taken_port_is_one_clear_error(self, cli: CommandLine) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            done = cli.run("serve", "server.py", "--port", str(port))
        assert done.returncode == 1
        expected = f"taskmill: Cannot listen on 127.0.0.1 port {port}: Address already in use. Choose another one"
        assert done.stderr.startswith(expected)
        assert len(done.stderr.splitlines()) == 1

    def test_an_open_address_without_allowed_hosts_is_refused(self, cli: CommandLine) -> None:
        done = cli.run("serve", "server.py", "--host", "0.0.0.0", "--port", "0")
        assert (done.returncode, done.stdout) == (1, "")
        assert "--allowed-hosts" in done.stderr
        assert len(done.stderr.splitlines()) == 1

    def test_an_open_address_with_allowed_hosts_is_served_under_the_first(self, cli: CommandLine) -> None:
        words = ("--host", "0.0.0.0", "--port", "0", "--allowed-hosts", "tools.example.com,other.example.com")
        with cli.started("serve", "server.py", *words) as server:
            assert server.url().startswith("http://tools.example.com:")

    def test_settings_that_cannot_work_name_the_variable(self, cli: CommandLine) -> None:
        done = cli.run("serve", "server.py", TASKMILL_PORT="99999")
        assert done.returncode == 2
        assert "TASKMILL_PORT" in done.stderr
        assert len(done.stderr.splitlines()) == 1

    def test_the_authors_store_settings_override_the_environment(self, cli: CommandLine) -> None:
        cli.write("server.py", AUTHORED)
        done = cli.run("serve", "server.py", "--port", "0", TASKMILL_REDIS_URL="redis://127.0.0.1:1")
        assert done.returncode == 2
        assert "is not a Redis address" in done.stderr

    def test_a_crash_of_the_authors_lifespan_ends_it(self, cli: CommandLine) -> None:
        cli.write("server.py", LIFESPAN.replace("# here", "raise RuntimeError('no database')"))
        done = cli.run("serve", "server.py", "--port", "0")
        assert done.returncode == 1
        assert "RuntimeError: no database" in done.stderr


class TestWorker:
    def test_it_drains_and_ends_with_0(self, cli: CommandLine) -> None:
        cli.forks = False
        with cli.started("worker", "server.py") as worker:
            eventually(lambda: "worker.started" in worker.log.read_text())
            assert worker.end() == 0
        assert "worker.stopped" in worker.log.read_text()

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_while_it_starts_ends_it_in_order(self, cli: CommandLine, number: int) -> None:
        """A deployment that is restarted twice in a row sends it: what is open is closed, and it is no failure."""
        cli.write("server.py", HANGS_AT_START)
        with cli.started("worker", "server.py") as worker:
            eventually(lambda: (cli.folder / "lifespan").exists())
            assert worker.end(number) == 0
        assert (cli.folder / "lifespan").read_text() == "in out "
        assert "Traceback" not in worker.log.read_text()

    def test_it_ends_by_itself_when_it_is_idle(self, cli: CommandLine) -> None:
        assert cli.run("worker", "server.py", "--idle-exit", "0.2").returncode == 0

    def test_a_sync_tool_that_does_not_stop_does_not_keep_the_process(self, cli: CommandLine) -> None:
        """A thread cannot be killed; the process does not wait for it after its task was released."""
        cli.write("server.py", STUCK)
        with cli.started("run", "server.py", "--port", "0") as command:
            url = command.url()
            called = cli.run("call", "--url", url, "stuck", "--detach")
            assert called.returncode == 0, called.stderr
            eventually(lambda: (cli.folder / "stuck").exists())
            assert command.end() == 0
        assert eventually(lambda: not cli.processes("taskmill.cli.main"))


class TestQueues:
    def test_a_queue_that_no_tool_uses_is_a_warning_with_the_queues_of_the_tools(self, cli: CommandLine) -> None:
        done = cli.run("worker", "server.py", "--queue", "defualt", "--queue", "default", "--idle-exit", "0.1")
        assert done.returncode == 0
        (warning,) = [line for line in done.stderr.splitlines() if "queue.unused" in line]
        assert "defualt" in warning
        assert '["default"]' in warning

    def test_names_that_no_queue_can_have_are_refused(self, cli: CommandLine) -> None:
        done = cli.run("worker", "server.py", "--queue", "a b")
        assert done.returncode == 2
        assert "--queue: should match pattern" in done.stderr

    def test_a_stock_worker_refuses_several_queues(self, cli: CommandLine) -> None:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("arq")), "taskmill.cli.arq.WorkerSettings"],
            env=cli.environment | {"TASKMILL_SERVER": "server.py", "TASKMILL_QUEUE": "a,b"},
            cwd=cli.folder,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            timeout=WAIT_SECONDS,
        )
        assert done.stderr.strip() == "taskmill: An arq worker serves one queue, not a,b: start one for each."


class TestStockWorker:
    def arq(self, cli: CommandLine, **environment: str) -> subprocess.Popen[str]:
        program = str(Path(sys.executable).with_name("arq"))
        return subprocess.Popen(
            [program, "taskmill.cli.arq.WorkerSettings"],
            env=cli.environment | environment,
            cwd=cli.folder,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )

    def test_it_runs_tasks(self, cli: CommandLine) -> None:
        with cli.started("serve", "server.py", "--port", "0") as server:
            url = server.url()
            worker = self.arq(cli, TASKMILL_SERVER="server.py")
            try:
                done = cli.run("call", "--url", url, "dig", "gate=server.py", "--json")
                assert json.loads(done.stdout)["content"] == [{"type": "text", "text": "dug"}]
            finally:
                worker.terminate()
                worker.communicate(timeout=WAIT_SECONDS)

    def test_without_a_file_it_names_the_variable_to_set(self, cli: CommandLine) -> None:
        worker = self.arq(cli)
        _, errors = worker.communicate(timeout=WAIT_SECONDS)
        assert worker.returncode == 2
        assert errors.startswith("taskmill: No server is named: set TASKMILL_SERVER")


LIFESPAN = """
from contextlib import asynccontextmanager
from taskmill.server import TaskServer

def note(word):
    with open("lifespan", "a") as file:
        file.write(word)

@asynccontextmanager
async def lifespan(server):
    note("in ")
    # here
    yield {}
    note("out ")

mcp = TaskServer("Tests", lifespan=lifespan)
"""

HANGS_AT_START = (
    LIFESPAN.replace("from contextlib", "import asyncio\nfrom contextlib")
    .replace("# here", "try:\n        await asyncio.Event().wait()\n    finally:\n        note('out ')")
    .replace('    note("out ")\n', "")
    + "\n\n@mcp.tool(task=True)\ndef dig() -> None:\n    pass\n"
)

AUTHORED = """
from taskmill.server import TaskServer
from taskmill.store.settings import StoreSettings

mcp = TaskServer("Tests", store=StoreSettings(redis_url="nonsense://"))
"""

STUCK = '''
import time
from pathlib import Path
from taskmill.server import TaskServer

mcp = TaskServer("Tests")

@mcp.tool(task=True)
def stuck() -> None:
    """Never end."""
    Path("stuck").touch()
    while True:
        time.sleep(0.1)
'''


async def test_an_address_is_believed_from_named_proxies_only() -> None:
    with pytest.raises(SettingsError, match="TASKMILL_TRUSTED_PROXIES"):
        read_settings(ServerSettings, trusted_proxies="everyone")
    assert trusted_proxies(ServerSettings()) is None, "uvicorn's own: this machine's"
    named = trusted_proxies(ServerSettings.model_validate({"trusted_proxies": "10.0.0.0/8, 192.0.2.7"}))
    assert named is not None
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["client"][0])

    for peer in ("10.1.2.3", "203.0.113.9"):
        headers = [(b"x-forwarded-for", b"198.51.100.1")]
        scope: Any = {"type": "http", "client": (peer, 1), "headers": headers}
        await ProxyHeadersMiddleware(app, named)(scope, None, None)  # type: ignore[arg-type]  # neither is called
    assert seen == ["198.51.100.1", "203.0.113.9"]
