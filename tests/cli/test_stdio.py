"""`taskmill stdio` under real hosts: both protocol revisions, standard output, workers that outlive it, its exit."""

import asyncio
import fcntl
import os
import re
import signal
import stat
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from anyio import fail_after, sleep
from mcp.client import Client
from mcp.client.session import ClientRequestContext
from mcp.client.stdio import StdioServerParameters
from mcp.types import ElicitRequestParams, ElicitResult
from pydantic import TypeAdapter

from taskmill.cli.stdio.on_demand_worker import OnDemandWorker, WorkerNeed
from taskmill.cli.stdio.state_folder import user_state_folder
from taskmill.store.settings import StoreSettings
from tests.support.command_line import SERVER, CommandLine, Screen
from tests.support.processes import end
from tests.support.raw_stdio import RawHost
from tests.support.results import text_of
from tests.support.sdk_extension import TasksExtension
from tests.support.waiting import WAIT_SECONDS, eventually

WORKER = "taskmill.cli.main worker"
LOUD = """
import os, subprocess, sys
print("printed while it was loaded")
subprocess.run(["echo", "printed by a child"])
assert sys.stdin.read() == "", "somebody else reads what the host sends"
"""
LOUD_TOOL = '''
@mcp.tool()
async def shout() -> str:
    """Print, and have a child print."""
    print("printed by a tool")
    subprocess.run(["echo", "printed by the child of a tool"])
    os.write(1, b"written to descriptor 1\\n")
    return "shouted"
'''


def new_command_line(folder: Path) -> CommandLine:
    """A command line with the data directory of a host's server, and a lease so long that it ends in no test."""
    command_line = CommandLine(folder)
    del command_line.environment["TASKMILL_HOME"]
    command_line.environment |= {"XDG_STATE_HOME": str(folder / "state"), "TASKMILL_LEASE": "300"}
    command_line.write("server.py", LOUD + SERVER + LOUD_TOOL)
    return command_line


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    with new_command_line(tmp_path) as command_line:
        yield command_line


@pytest.fixture(scope="module")
def shared_cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    with new_command_line(tmp_path_factory.mktemp("stdio")) as command_line:
        yield command_line


def raw_host(
    cli: CommandLine, *words: str, file: str = "server.py", folder: Path = Path("/")
) -> AbstractContextManager[RawHost]:
    command = cli.command("stdio", str(cli.folder / file), *words)
    return RawHost.started(command, cli.environment, folder, cli.folder / "stdio.log")


def official_host(cli: CommandLine, **options: Any) -> Client:
    command, *words = cli.command("stdio", str(cli.folder / "server.py"))
    return Client(StdioServerParameters(command=command, args=words, env=cli.environment, cwd="/"), **options)


def workers(cli: CommandLine) -> set[int]:
    return set(cli.processes(WORKER))


def wait_until(host: RawHost, task_id: str, words: str) -> dict[str, Any]:
    """Wait until the task's status or status message has these words; the task."""

    def look() -> dict[str, Any] | None:
        task = host.task(task_id)
        return task if words in f"{task['status']} {task.get('statusMessage', '')}" else None

    found = eventually(look)
    assert found is not None
    return found


def result_of(task: dict[str, Any]) -> str:
    return str(task["result"]["content"][0]["text"])


def worker_log(cli: CommandLine) -> str:
    (data,) = (cli.folder / "state" / "taskmill").iterdir()
    log = data / "worker.log"
    return log.read_text() if log.exists() else ""


async def say_who(context: ClientRequestContext, question: ElicitRequestParams) -> ElicitResult:
    return ElicitResult(action="accept", content={"name": "Ada", "age": 36, "vip": True})


class TestEras:
    """The unmodified official client, in each way to open a connection."""

    @pytest.mark.parametrize(
        ("options", "is_held"),
        [
            pytest.param({"mode": "2026-07-28", "extensions": [TasksExtension()]}, False, id="tasks-2026"),
            pytest.param({"mode": "auto"}, True, id="plain-2026"),
            pytest.param({"mode": "legacy"}, True, id="plain-2025"),
        ],
    )
    async def test_a_task_tool_runs_to_its_result(
        self, shared_cli: CommandLine, options: dict[str, Any], is_held: bool
    ) -> None:
        gate = shared_cli.folder / f"gate-{options['mode']}"
        told = []

        async def progress(done: float, total: float | None, message: str | None) -> None:
            told.append((done, total, message))
            gate.touch()

        if not is_held:
            gate.touch()
        async with official_host(shared_cli, **options) as client:
            result = await client.call_tool("dig", {"gate": str(gate)}, progress_callback=progress)
        assert text_of(result) == "dug"
        assert bool(told) == is_held, "a task tells its progress in its status"

    async def test_a_client_of_2025_is_asked_the_tools_question(self, shared_cli: CommandLine) -> None:
        async with official_host(shared_cli, mode="legacy", elicitation_callback=say_who) as client:
            assert text_of(await client.call_tool("greet", {})) == "accept name='Ada' age=36 vip=True"

    async def test_a_client_of_2026_is_asked_the_tools_question(self, shared_cli: CommandLine) -> None:
        extension = TasksExtension(elicit=say_who)
        options = {"mode": "2026-07-28", "extensions": [extension], "elicitation_callback": say_who}
        async with official_host(shared_cli, **options) as client:
            assert text_of(await client.call_tool("greet", {})) == "accept name='Ada' age=36 vip=True"

    async def test_a_tool_that_is_no_task_runs_in_the_server_itself(self, shared_cli: CommandLine) -> None:
        async with official_host(shared_cli) as client:
            assert text_of(await client.call_tool("add", {"a": 1, "b": 2})) == "3"


@pytest.mark.parametrize("era", ["2025-11-25", "2026-07-28"])
def test_nothing_but_the_protocol_is_on_standard_output(shared_cli: CommandLine, era: str) -> None:
    message = TypeAdapter(dict[str, Any])
    with raw_host(shared_cli) as host:
        if era == "2025-11-25":
            assert host.initialize()["protocolVersion"] == era
        called = host.request("tools/call", {"name": "shout", "arguments": {}})
        assert called["content"][0]["text"] == "shouted"
        host.close_input()
        assert host.process.wait(WAIT_SECONDS) == 0
        host._reader.join(WAIT_SECONDS)
        assert {message.validate_json(line)["jsonrpc"] for line in host.lines} == {"2.0"}
    log = host.log.read_text()
    for expected_text in (
        "printed while it was loaded",
        "printed by a child",
        "printed by a tool",
        "printed by the child of a tool",
        "written to descriptor 1",
        "stdio.started",
    ):
        assert expected_text in log


class TestWorkers:
    @pytest.mark.parametrize("victim", ["the server", "the host"])
    def test_a_task_survives_a_kill(self, cli: CommandLine, victim: str) -> None:
        gate = cli.folder / "gate"
        if victim == "the server":
            with raw_host(cli) as host:
                task_id = host.call_as_task("dig", gate=str(gate))
                wait_until(host, task_id, "half of the hole")
                (worker,) = workers(cli)
                host.process.kill()
        else:
            task_id, worker = self.kill_the_host_itself(cli, gate)
        assert eventually(lambda: not cli.processes("taskmill stdio"))
        with raw_host(cli) as host:
            assert host.task(task_id)["status"] == "working"
            gate.touch()
            assert result_of(wait_until(host, task_id, "completed")) == "dug"
            assert workers(cli) == {worker}, "the worker that had begun the task ended it"

    def kill_the_host_itself(self, cli: CommandLine, gate: Path) -> tuple[str, int]:
        """A host that is a process of its own, as real ones are: its death closes the pipes and nothing else."""
        script = cli.write("host.py", HOST)
        root = Path(__file__).parents[2]
        command = [sys.executable, str(script), *cli.command("stdio", str(cli.folder / "server.py"))]
        environment = cli.environment | {"PYTHONPATH": str(root), "GATE": str(gate)}
        with (cli.folder / "host.log").open("wb") as log:
            host = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        assert host.stdout is not None
        with host, host.stdout:
            task_id = host.stdout.readline().strip()
            assert task_id, (cli.folder / "host.log").read_text()
            (worker,) = eventually(lambda: workers(cli))
            eventually(lambda: "worker.left" in (cli.folder / "host.log").read_text())
            host.kill()
        return task_id, worker

    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, "end of input"])
    def test_a_host_that_is_started_again_finds_its_task_by_the_same_call(
        self, cli: CommandLine, how: str | int
    ) -> None:
        """Its model has lost everything but what its user asked for."""
        gate = cli.folder / "gate"
        arguments = {"name": "dig", "arguments": {"gate": str(gate)}}
        log = cli.folder / "stdio.log"
        with raw_host(cli) as host:
            host.initialize()
            host.send("tools/call", arguments)
            eventually(lambda: "task.created" in log.read_text())
            if isinstance(how, int):
                host.process.send_signal(how)
            else:
                host.close_input()
            assert host.process.wait(WAIT_SECONDS) == 0
        with raw_host(cli) as host:
            host.initialize()
            call = host.send("tools/call", arguments)
            eventually(lambda: log.read_text().count("client.connected") == 2)
            gate.touch()
            assert host.answer(call)["content"][0]["text"] == "dug"
        assert log.read_text().count("task.created") == 1

    def test_two_servers_share_one_worker(self, cli: CommandLine) -> None:
        gate = cli.folder / "gate"
        with raw_host(cli) as one, raw_host(cli) as other:
            # Both find in the same moment that there is no worker.
            asked = [
                (host, host.send("tools/call", {"name": "dig", "arguments": {"gate": str(gate)}}))
                for host in (one, other)
            ]
            tasks = [(host, host.answer(request)["taskId"]) for host, request in asked]
            for host, task_id in tasks:
                wait_until(host, task_id, "half of the hole")
            assert len(workers(cli)) == 1
            gate.touch()
            for host, task_id in tasks:
                wait_until(host, task_id, "completed")
            assert len(workers(cli)) == 1

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_a_dead_worker_is_replaced_when_a_task_waits(self, cli: CommandLine, number: int) -> None:
        """The lease is so long that the dead worker still counts as alive in the store."""
        cli.write("gate", "")
        with raw_host(cli) as host:
            first = host.call_as_task("dig", gate=str(cli.folder / "gate"))
            wait_until(host, first, "completed")
            (worker,) = workers(cli)
            end(worker, number, within=WAIT_SECONDS)
            second = host.call_as_task("dig", gate=str(cli.folder / "gate"))
            wait_until(host, second, "completed")
            assert len(workers(cli)) == 1

    def test_a_starting_worker_is_awaited_although_its_server_has_ended(self, cli: CommandLine) -> None:
        cli.write("server.py", SLOW_WORKER + SERVER)
        gate = cli.write("gate", "")
        with raw_host(cli) as host:
            task_id = host.call_as_task("dig", gate=str(gate))
            (worker,) = eventually(lambda: workers(cli))
            host.close_input()
            assert host.process.wait(WAIT_SECONDS) == 0
        with raw_host(cli) as host:
            asked = count()
            eventually(lambda: host.task(task_id)["status"] == "working" and next(asked) == 30)
            cli.write("go", "")
            wait_until(host, task_id, "completed")
        assert workers(cli) == {worker}

    def test_a_draining_worker_does_not_count(self, cli: CommandLine) -> None:
        """It drains: its active task takes long, and the next task does not wait for that."""
        cli.environment["TASKMILL_GRACE"] = "300"
        gate = cli.folder / "gate"
        with raw_host(cli) as host:
            slow = host.call_as_task("dig", gate=str(gate))
            wait_until(host, slow, "half of the hole")
            (first,) = workers(cli)
            os.kill(first, signal.SIGTERM)
            eventually(lambda: "worker.draining" in worker_log(cli))
            wait_until(host, host.call_as_task("dig", gate=str(cli.write("open gate", ""))), "completed")
            assert len(workers(cli) - {first}) == 1
            gate.touch()
            assert wait_until(host, slow, "completed")

    def test_an_answer_starts_a_new_worker_when_the_one_that_asked_has_ended(self, cli: CommandLine) -> None:
        with raw_host(cli) as host:
            task_id = host.call_as_task("greet")
            wait_until(host, task_id, "input_required")
            (worker,) = workers(cli)
            end(worker, signal.SIGTERM, within=WAIT_SECONDS)
        with raw_host(cli) as host:
            host.answer_questions(task_id, name="Ada", age=36, vip=True)
            assert result_of(wait_until(host, task_id, "completed")) == "accept name='Ada' age=36 vip=True"

    def test_a_changed_file_gets_a_new_worker_and_the_old_one_ends_its_task(self, cli: CommandLine) -> None:
        """The changed file is one that the server imports."""
        cli.write("phrases.py", 'DUG = "dug"\n')
        cli.write("server.py", "from phrases import DUG\n" + SERVER.replace('return "dug"', "return DUG"))
        gate = cli.folder / "gate"
        with raw_host(cli) as host:
            old = host.call_as_task("dig", gate=str(gate))
            wait_until(host, old, "half of the hole")
            (first,) = workers(cli)
        cli.write("phrases.py", 'DUG = "dug deeper"\n')
        eventually(lambda: "worker.retiring" in worker_log(cli))
        open_gate = cli.write("open gate", "")
        with raw_host(cli) as host:
            new = host.call_as_task("dig", gate=str(open_gate))
            assert result_of(wait_until(host, new, "completed")) == "dug deeper"
            assert len(workers(cli) - {first}) == 1
            gate.touch()
            assert result_of(wait_until(host, old, "completed")) == "dug"
            eventually(lambda: first not in workers(cli))

    def test_each_queue_has_its_worker(self, cli: CommandLine) -> None:
        cli.write("server.py", SERVER + BY_QUEUE)
        with raw_host(cli) as host:
            tasks = [host.call_as_task("plough"), host.call_as_task("stumble")]
            for task_id in tasks:
                wait_until(host, task_id, "completed")
        assert {line.split("--queue ")[1].split()[0] for line in cli.processes(WORKER).values()} == {
            "default",
            "field",
        }

    def test_a_task_is_run_although_its_host_ends_at_once(self, cli: CommandLine) -> None:
        gate = cli.write("gate", "")
        with raw_host(cli) as host:
            task_id = host.call_as_task("dig", gate=str(gate))
            host.close_input()
            assert host.process.wait(WAIT_SECONDS) == 0
        eventually(lambda: workers(cli))
        eventually(lambda: "task.settled" in worker_log(cli))
        with raw_host(cli) as host:
            assert host.task(task_id)["status"] == "completed"

    def test_a_worker_that_cannot_start_is_logged_and_tried_again(self, cli: CommandLine) -> None:
        cli.write("server.py", SERVER.replace('mcp = TaskServer("Tests")', WITH_LIFESPAN))
        gate = cli.write("gate", "")
        with raw_host(cli) as host:
            task_id = host.call_as_task("dig", gate=str(gate))
            eventually(lambda: "worker.failed" in host.log.read_text())
            assert host.task(task_id)["status"] == "working"
            cli.write("repaired", "")
            wait_until(host, task_id, "completed")

    def test_a_configured_redis_is_used(self, cli: CommandLine, redis_url: str) -> None:
        cli.environment["TASKMILL_PREFIX"] = cli.folder.name
        gate = cli.write("gate", "")
        with raw_host(cli, "--redis-url", redis_url) as host:
            task_id = host.call_as_task("dig", gate=str(gate))
            wait_until(host, task_id, "completed")
        assert not cli.processes("redis-server")


class TestData:
    def test_the_folder_is_private_and_the_same_from_everywhere(self, cli: CommandLine) -> None:
        elsewhere = cli.folder / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "link.py").symlink_to(cli.folder / "server.py")
        for folder, file in ((Path("/"), "server.py"), (elsewhere, "server.py"), (elsewhere, "elsewhere/link.py")):
            with raw_host(cli, file=file, folder=folder) as host:
                host.request("tools/list")
        (data,) = (cli.folder / "state" / "taskmill").iterdir()
        assert data.name.startswith("server-")
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
        left = {path.name for path in elsewhere.iterdir()} - {"__pycache__"}  # that is Python's, of the author's file
        assert left == {"link.py"}

    def test_each_server_file_has_its_own(self, cli: CommandLine) -> None:
        cli.write("other/server.py", SERVER)
        for file in ("server.py", "other/server.py"):
            with raw_host(cli, file=file) as host:
                host.request("tools/list")
        assert len(list((cli.folder / "state" / "taskmill").iterdir())) == 2

    def test_taskmill_home_is_used(self, cli: CommandLine) -> None:
        cli.environment["TASKMILL_HOME"] = str(cli.folder / "mine")
        with raw_host(cli) as host:
            host.request("tools/list")
        assert (cli.folder / "mine" / "redis.log").exists()
        assert not (cli.folder / "state").exists()

    @pytest.mark.parametrize(
        ("platform", "environment", "expected"),
        [
            ("linux", {}, "/home/ada/.local/state"),
            ("linux", {"XDG_STATE_HOME": "/var/ada"}, "/var/ada"),
            ("linux", {"XDG_STATE_HOME": "relative"}, "/home/ada/.local/state"),
            ("darwin", {"XDG_STATE_HOME": "/var/ada"}, "/home/ada/Library/Application Support"),
            ("win32", {"LOCALAPPDATA": "/local"}, "/local"),
            ("win32", {}, "/home/ada/AppData/Local"),
        ],
    )
    def test_platforms_differ(self, platform: str, environment: dict[str, str], expected: str) -> None:
        assert user_state_folder(platform, environment, "/home/ada") == expected


class TestEnd:
    @pytest.mark.parametrize("how", ["end of input", signal.SIGTERM, signal.SIGINT])
    @pytest.mark.parametrize("is_busy", [False, True], ids=["idle", "in a held call"])
    def test_it_ends_promptly_and_quietly(self, shared_cli: CommandLine, how: str | int, is_busy: bool) -> None:
        log = shared_cli.folder / "stdio.log"
        log.write_bytes(b"")
        gate = shared_cli.folder / f"never-{how}"  # the same call again would find the same task again
        with raw_host(shared_cli) as host:
            host.initialize()
            if is_busy:
                host.send("tools/call", {"name": "dig", "arguments": {"gate": str(gate)}})
                eventually(lambda: "task.created" in log.read_text())
            if isinstance(how, int):
                host.process.send_signal(how)
            else:
                host.close_input()
            assert host.process.wait(WAIT_SECONDS) == 0
        assert "Traceback" not in log.read_text()
        assert "taskmill:" not in log.read_text()

    def test_a_cancel_that_follows_the_signal_of_ctrl_c_is_honoured(self, shared_cli: CommandLine) -> None:
        """Claude Code's Ctrl-C reaches the server as SIGINT, and 60 ms later comes its `notifications/cancelled`."""
        log = shared_cli.folder / "stdio.log"
        log.write_bytes(b"")
        with raw_host(shared_cli) as host:
            host.initialize()
            gate = str(shared_cli.folder / "never, by Ctrl-C")
            call = host.send("tools/call", {"name": "dig", "arguments": {"gate": gate}})
            logged = r'"task_id": "([\w-]+)", "tool": "dig", "event": "task.created"'
            created = eventually(lambda: re.search(logged, log.read_text()))
            host.process.send_signal(signal.SIGINT)
            host.notify("notifications/cancelled", {"requestId": call, "reason": "The user pressed Ctrl-C"})
            assert host.process.wait(WAIT_SECONDS) == 0
        assert created is not None
        with raw_host(shared_cli) as host:
            assert host.task(created[1])["status"] == "cancelled"

    def test_a_host_that_does_not_read_cannot_delay_the_exit(self, shared_cli: CommandLine) -> None:
        """Standard output is a full pipe that no one reads."""
        with bare(shared_cli) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(INITIALIZE + CALL_OF_ECHO.replace(b"TEXT", b"x" * 100_000) * 3)
            process.stdin.flush()
            ready = process.stdout.fileno()
            eventually(lambda: unread_bytes(ready) > 60_000)
            process.terminate()
            assert process.wait(WAIT_SECONDS) == 0

    def test_a_host_that_closes_the_pipe_ends_it(self, shared_cli: CommandLine) -> None:
        """Another process may keep its standard input open: a program that the dead host had started."""
        with bare(shared_cli) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdout.close()
            process.stdin.write(INITIALIZE)
            process.stdin.flush()
            assert process.wait(WAIT_SECONDS) == 0


async def test_a_check_ends_although_it_is_woken_in_the_same_moment(redis_url: str, tmp_path: Path) -> None:
    """The host's last line and the end of its input come together; one step of the event loop decides the order."""
    settings = StoreSettings(redis_url=redis_url, home=tmp_path)
    workers = [OnDemandWorker(WorkerNeed("server.py", "none", frozenset(), ()), settings) for _ in range(4)]
    for worker in workers:
        worker.open()
    with fail_after(30):
        while not all(worker._wakeup._waiters for worker in workers):
            await sleep(0.02)
    for steps, worker in enumerate(workers):
        worker.wake()
        for _ in range(steps):
            await asyncio.sleep(0)
        with fail_after(30):
            await worker.close()


class TestStart:
    @pytest.mark.parametrize(
        ("words", "code", "expected_text"),
        [
            pytest.param(("nowhere.py",), 1, "taskmill: There is no file nowhere.py.", id="no file"),
            pytest.param(("broken.py",), 1, "ZeroDivisionError: division by zero", id="the author's mistake"),
            pytest.param(("server.py", "--redis-url", "http://x"), 2, "is not a Redis address", id="settings"),
            pytest.param(("server.py", "--redis-url", "redis://127.0.0.1:1"), 69, "cannot be reached", id="no Redis"),
        ],
    )
    def test_errors_are_printed_on_standard_error(
        self, cli: CommandLine, words: tuple[str, ...], code: int, expected_text: str
    ) -> None:
        cli.write("broken.py", "print('before')\n1 / 0\n")
        process = subprocess.Popen(
            cli.command("stdio", *words),
            env=cli.environment,
            cwd=cli.folder,
            stdin=subprocess.PIPE,  # and it stays open
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.wait(WAIT_SECONDS) == code
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.read() == ""
            assert expected_text in process.stderr.read()

    def test_a_person_at_a_terminal_is_pointed_to_call(self, cli: CommandLine) -> None:
        with closing(Screen(cli, ["stdio", "server.py"])) as screen:
            screen.wait_for("taskmill call FILE TOOL")
            screen.wait_for("stdio.started")
            screen.type("\x03")
            assert screen.end() == 0

    def test_a_server_without_task_tools_needs_no_worker(self, cli: CommandLine) -> None:
        cli.write("server.py", NO_TASKS)
        with raw_host(cli) as host:
            assert [tool["name"] for tool in host.request("tools/list")["tools"]] == ["ping"]
            host.close_input()
            assert host.process.wait(WAIT_SECONDS) == 0


HOST = """
import asyncio, os, sys

from tests.support.sdk_extension import CreatedTask, TasksExtension
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters


class Telling(TasksExtension):
    async def _follow(self, created, context):
        print(created.task_id, flush=True)
        return await super()._follow(created, context)


async def main():
    server = StdioServerParameters(command=sys.argv[1], args=sys.argv[2:], env=dict(os.environ), cwd="/")
    async with Client(server, mode="2026-07-28", extensions=[Telling()]) as client:
        await client.call_tool("dig", {"gate": os.environ["GATE"]})


asyncio.run(main())
"""
BY_QUEUE = '''
@mcp.tool(task=TaskConfig(queue="field", poll_interval=0.1))
async def plough() -> str:
    """Work elsewhere."""
    return "ploughed"
'''
WITH_LIFESPAN = """
import sys
from contextlib import asynccontextmanager

@asynccontextmanager
async def life(server):
    if "worker" in sys.argv and not Path(__file__).with_name("repaired").exists():
        raise RuntimeError("no database")
    yield {}

mcp = TaskServer("Tests", lifespan=life)
"""
SLOW_WORKER = """
import sys, time
from pathlib import Path

while "worker" in sys.argv and not Path(__file__).with_name("go").exists():
    time.sleep(0.02)

"""
NO_TASKS = '''
from taskmill.server import TaskServer

mcp = TaskServer("Plain")


@mcp.tool()
def ping() -> str:
    """Answer."""
    return "pong"
'''
INITIALIZE = (
    b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},'
    b'"clientInfo":{"name":"bare","version":"1"}}}\n{"jsonrpc":"2.0","method":"notifications/initialized"}\n'
)
CALL_OF_ECHO = b'{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"echo","arguments":{"text":"TEXT"}}}\n'


def unread_bytes(descriptor: int) -> int:
    return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, b"\0" * 4), sys.byteorder)


@contextmanager
def bare(cli: CommandLine) -> Iterator[subprocess.Popen[bytes]]:
    """The command with two pipes, and no process at their other ends."""
    with (cli.folder / "bare.log").open("wb") as log:
        process = subprocess.Popen(
            cli.command("stdio", str(cli.folder / "server.py")),
            env=cli.environment,
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    with process:
        try:
            yield process
        finally:
            process.kill()
