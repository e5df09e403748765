"""What `taskmill stdio` answers before it has loaded the server: only what the loaded server would answer."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from taskmill.adapters.fastmcp.host import FastMCPHost
from taskmill.cli.loading import load_server
from taskmill.cli.stdio.answer_file import CLOCK_TICK, AnswerFile
from taskmill.cli.stdio.fixed_handshake import is_fixed
from taskmill.cli.stdio.handshake import Handshake
from taskmill.server import TaskServer
from tests.support.command_line import CommandLine
from tests.support.raw_stdio import RawHost
from tests.support.waiting import WAIT_SECONDS, eventually

HELD = '''
"""A server whose load is held until a file is gone."""
import sys, time
from pathlib import Path

print("loading", file=sys.stderr, flush=True)
while Path(__file__).with_name("hold").exists():
    time.sleep(0.01)
if Path(__file__).with_name("broken").exists():
    raise RuntimeError("This server is broken.")

from taskmill.server import TaskServer

INSTRUCTIONS = "Ask first. " + "Then call."
mcp = TaskServer("Held", instructions=INSTRUCTIONS, version="1.0")


@mcp.tool(task=True)
async def nap() -> str:
    """Sleep."""
    return "slept"
'''
DISCOVER: dict[str, Any] = {"supportedVersions": ["2026-07-28"]}
INITIALIZED: dict[str, Any] = {"protocolVersion": "2025-11-25"}


FOREIGN = """
import json, sys, time
from pathlib import Path

HERE = Path(__file__).parent
while (HERE / "hold").exists():
    time.sleep(0.01)
for line in sys.stdin:
    request = json.loads(line)
    if request.get("method") == "initialize":
        version = request["params"]["protocolVersion"]
        words = (HERE / "instructions").read_text()
        server = {"name": "foreign", "version": "1"}
        answer = {"result": {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": server,
                             "instructions": words}}
    elif request.get("method") == "tools/list":
        answer = {"result": {"tools": [{"name": "nap", "inputSchema": {"type": "object"}}]}}
    else:
        answer = {"error": {"code": -32601, "message": "Method not found"}}
    if "id" in request:
        print(json.dumps({"jsonrpc": "2.0", "id": request["id"], **answer}), flush=True)
"""


@pytest.fixture
def held(cli: CommandLine) -> CommandLine:
    """A server that has answered both first requests once, so that the answers are known."""
    cli.write("server.py", HELD)
    written = (cli.folder / "server.py").stat().st_ctime_ns
    # What was written within a clock tick of the start may change unseen, so nothing is kept of it.
    eventually(lambda: time.time_ns() - written > 10 * CLOCK_TICK)
    for probes in (False, True):
        known = len(answers(cli))
        with host_of(cli) as host:
            shake(host, probes=probes)
            eventually(lambda wanted=known + 1 + probes: len(answers(cli)) == wanted)
    return cli


def host_of(cli: CommandLine) -> AbstractContextManager[RawHost]:
    command = cli.command("stdio", str(cli.folder / "server.py"))
    return RawHost.started(command, cli.environment, cli.folder, cli.folder / "stdio.log")


def shake(host: RawHost, *, probes: bool) -> list[dict[str, Any]]:
    """The answers to the first requests: a probe, as Claude Code sends it first, and `initialize`."""
    return [host.request("server/discover"), host.initialize()] if probes else [host.initialize()]


def answers(cli: CommandLine) -> dict[str, Any]:
    files = list((cli.folder / ".taskmill").glob("answers-*.json"))
    return dict(json.loads(files[0].read_text())["answers"]) if files else {}


class TestAnswersOfTheLastStart:
    @pytest.mark.parametrize("probes", [False, True], ids=["initialize", "probe"])
    def test_they_are_sent_while_the_server_is_loading_and_are_the_loaded_servers(
        self, held: CommandLine, *, probes: bool
    ) -> None:
        with host_of(held) as host:
            loaded = shake(host, probes=probes)
        (held.folder / "hold").touch()
        with host_of(held) as host:
            early = shake(host, probes=probes)
            call = host.send("tools/list", {})
            eventually(lambda: held.folder.joinpath("stdio.log").read_text().endswith("loading\n"))
            (held.folder / "hold").unlink()
            assert host.answer(call)["tools"][0]["name"] == "nap"
            assert len(host.lines) == len(early) + 1, "each request has one answer"

        assert early == loaded
        assert early[-1]["instructions"] == "Ask first. Then call."
        assert early[-1]["capabilities"]["tasks"] == {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}

    def test_a_changed_file_answers_as_it_is_now(self, held: CommandLine) -> None:
        held.write("server.py", HELD.replace("Then call.", "Then wait."))
        with host_of(held) as host:
            assert host.initialize()["instructions"] == "Ask first. Then wait."

    def test_an_answer_that_the_loaded_server_does_not_give_is_reported_and_forgotten(self, held: CommandLine) -> None:
        (file,) = (held.folder / ".taskmill").glob("answers-*.json")
        file.write_text(file.read_text().replace("Ask first.", "Ask last."))
        with host_of(held) as host:
            assert host.initialize()["instructions"] == "Ask last. Then call."
            host.request("tools/list")
            eventually(lambda: not file.exists())
            eventually(lambda: "stdio.answer_outdated" in host.log.read_text())

    def test_a_server_that_cannot_be_loaded_any_more_is_answered_for_once(self, held: CommandLine) -> None:
        (held.folder / "broken").touch()
        with host_of(held) as host:
            host.initialize()
            assert host.process.wait(WAIT_SECONDS) == 1
        assert "This server is broken." in (held.folder / "stdio.log").read_text()
        assert answers(held) == {}
        with host_of(held) as host:
            assert host.process.wait(WAIT_SECONDS) == 1
            assert host.lines == []

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_while_it_loads_ends_it_in_order(self, held: CommandLine, number: int) -> None:
        (held.folder / "hold").touch()
        with host_of(held) as host:
            host.initialize()
            host.process.send_signal(number)
            assert host.process.wait(WAIT_SECONDS) == 0
        assert "Traceback" not in (held.folder / "stdio.log").read_text()

    def test_a_host_that_has_closed_its_side_ends_it_although_the_answer_is_known(self, held: CommandLine) -> None:
        (key,) = [key for key in answers(held) if json.loads(key)[:2] == [[], "initialize"]]
        request = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": json.loads(key)[2]}
        with subprocess.Popen(
            held.command("stdio", str(held.folder / "server.py")),
            env=held.environment,
            cwd=held.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdout.close()
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            assert process.wait(WAIT_SECONDS) == 0

    def test_a_server_that_is_not_ours_is_answered_for_and_then_compared(self, cli: CommandLine) -> None:
        cli.write("foreign.py", FOREIGN)
        cli.write("instructions", "Be kind.")
        cli.environment |= {"TASKMILL_UPSTREAM_TOKEN": "a-secret"}
        command = cli.command("stdio", "--", sys.executable, str(cli.folder / "foreign.py"))

        def started() -> AbstractContextManager[RawHost]:
            return RawHost.started(command, cli.environment, cli.folder, cli.folder / "stdio.log")

        with started() as host:
            loaded = host.initialize()
            eventually(lambda: answers(cli))
        (file,) = (cli.folder / ".taskmill").glob("answers-*.json")
        assert "a-secret" not in file.read_text()
        (cli.folder / "hold").touch()
        cli.write("instructions", "Be careful.")
        with started() as host:
            assert host.initialize() == loaded  # the server behind cannot answer yet
            call = host.send("tools/list", {})
            (cli.folder / "hold").unlink()
            assert host.answer(call)["tools"][0]["name"] == "nap"
            eventually(lambda: answers(cli) == {})
            eventually(lambda: "stdio.answer_outdated" in host.log.read_text())

    def test_help_and_wrong_words_are_answered_as_ever(self, held: CommandLine) -> None:
        assert "Usage: taskmill stdio" in held.run("stdio", "server.py", "--help").stdout
        assert held.run("stdio", "server.py", "--log-level", "loud").returncode == 2
        assert held.run("stdio", "server.py", "--no-such").returncode == 2


class TestWhenTheyHold:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name in ("app", "library", "data"):
            (tmp_path / name).mkdir()
        (tmp_path / "data").chmod(0o700)
        for name in ("app/server.py", "app/beside.py", "library/installed.py"):
            (tmp_path / name).write_text("x = 1\n")
        return tmp_path

    @pytest.fixture(autouse=True)
    def _path(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "path", [str(folder / "library")])

    def answer_file(self, folder: Path) -> AnswerFile:
        return AnswerFile(str(folder / "data"), str(folder / "app" / "server.py"), "")

    def keep(self, folder: Path) -> bool:
        file = self.answer_file(folder)
        file.started = time.time_ns() + 10**9
        loaded = [str(path) for path in folder.glob("*/*.py")]
        return file.write({"question": "answer"}, loaded, [str(folder / "app")])

    def test_they_hold_while_nothing_changes(self, folder: Path) -> None:
        assert self.keep(folder)
        (folder / "app" / "written.csv").write_text("data of the server's own\n")

        assert self.answer_file(folder).read() == {"question": "answer"}

    @pytest.mark.parametrize("name", ["app/server.py", "app/beside.py", "library/installed.py"])
    def test_not_after_a_change_of_a_loaded_file_even_with_its_old_time_and_size(self, folder: Path, name: str) -> None:
        assert self.keep(folder)
        before = (folder / name).stat()
        (folder / name).write_text("x = 2\n")
        os.utime(folder / name, ns=(before.st_atime_ns, before.st_mtime_ns))

        assert self.answer_file(folder).read() == {}

    @pytest.mark.parametrize("name", ["app/local_settings.py", "app/plugins", "library/server.py", "library/new"])
    def test_not_when_another_module_could_be_found(self, folder: Path, name: str) -> None:
        assert self.keep(folder)
        (folder / name).touch() if name.endswith(".py") else (folder / name).mkdir()

        assert self.answer_file(folder).read() == {}

    @pytest.mark.parametrize("variable", ["TASKMILL_TTL", "PYTHONHASHSEED"])
    def test_not_with_another_setting(self, folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
        assert self.keep(folder)
        monkeypatch.setenv(variable, "77")

        assert self.answer_file(folder).read() == {}

    def test_two_ways_to_start_a_server_do_not_replace_each_other(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert self.keep(folder)
        for number in range(12):
            with monkeypatch.context() as other:
                other.setenv("TASKMILL_TTL", str(number))
                assert self.keep(folder)
                assert self.answer_file(folder).read() == {"question": "answer"}
            if number == 2:
                assert self.answer_file(folder).read() == {"question": "answer"}

        assert len(list((folder / "data").iterdir())) == 8, "the oldest are removed"

    def test_not_with_another_python(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.keep(folder)
        monkeypatch.setattr(sys, "version", "4.0")

        assert self.answer_file(folder).read() == {}

    def test_not_with_another_path_to_import_from(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.keep(folder)
        monkeypatch.setattr(sys, "path", [str(folder), *sys.path])

        assert self.answer_file(folder).read() == {}

    @pytest.mark.parametrize("text", ["", "{", "[]", '{"circumstances": 1}'])
    def test_not_when_the_record_is_broken(self, folder: Path, text: str) -> None:
        assert self.keep(folder)
        (record,) = (folder / "data").iterdir()
        record.write_text(text)

        assert self.answer_file(folder).read() == {}

    def test_not_when_others_could_have_written_the_record(self, folder: Path) -> None:
        assert self.keep(folder)
        (record,) = (folder / "data").iterdir()
        record.chmod(0o660)

        assert self.answer_file(folder).read() == {}

    def test_a_file_that_changed_while_it_was_loaded_is_not_kept(self, folder: Path) -> None:
        file = self.answer_file(folder)
        (folder / "app" / "server.py").write_text("x = 3\n")

        assert not file.write({}, [str(folder / "app" / "server.py")], [])

    def test_a_folder_that_cannot_be_written_keeps_none(self, folder: Path) -> None:
        file = AnswerFile(str(folder / "app" / "server.py" / "below"), str(folder / "app" / "server.py"), "")
        file.started = time.time_ns() + 10**9

        assert not file.write({}, [], [])


HEAD = "from taskmill.server import TaskServer, TaskConfig\nimport os\n"
FASTMCP = """
from fastmcp import FastMCP
from fastmcp.server.middleware import Middleware
from fastmcp.tools import tool
from fastmcp.utilities.tasks import TaskConfig as Policy
"""
ASYNC_TASK = "@mcp.tool(task=True)\nasync def dig() -> str:\n    return 'dug'\n"
TASK = "@mcp.tool(task=True)\ndef dig() -> str:\n    return 'dug'\n"


class TestWhichServersAnswerTheSame:
    @pytest.fixture(autouse=True)
    def _imports_as_before(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.chdir(tmp_path)
        path, modules = list(sys.path), set(sys.modules)
        yield
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            del sys.modules[name]

    def judge(self, text: str, *more: ModuleType, of: type = TaskServer) -> bool:
        Path("s.py").write_text(HEAD + text)
        server = load_server("s.py")
        assert isinstance(server, of)
        return is_fixed(server, os.path.abspath("s.py"), [sys.modules["taskmill_app.s"], *more])

    @pytest.mark.parametrize(
        "text",
        [
            "mcp = TaskServer('Tools')\n" + TASK,
            "NAME = 'Tools'\nmcp: TaskServer = TaskServer(NAME, version='1.2', instructions='a' + 'b')\n" + TASK,
            "mcp = TaskServer('Tools', instructions=__doc__, hosts={}, follow_up_tools=bool(os.environ))\n" + TASK,
            "QUICK = TaskConfig()\nmcp = TaskServer()\n@mcp.tool(task=QUICK)\ndef dig() -> str:\n    return 'dug'\n",
            "mcp = TaskServer()\ndef dig() -> str:\n    return 'dug'\nmcp.tool(task=TaskConfig())(dig)\n",
            "mcp = TaskServer()\n@mcp.tool\ndef dig() -> str:\n    return 'dug'\nmcp.add_tool(dig, 'other')\n",
            "mcp = TaskServer()\n"
            + TASK
            + "if os.environ:\n    @mcp.tool(task=True)\n    def two() -> str:\n        return ''\n",
            "from textwrap import dedent\nTEXT = dedent('  Ask.')\nmcp = TaskServer('x', instructions=TEXT.strip())\n",
            "mcp = TaskServer()\n" + TASK + "if __name__ == '__main__':\n    mcp.run()\n",
        ],
    )
    def test_these_do(self, text: str) -> None:
        assert self.judge(text)

    @pytest.mark.parametrize(
        "text",
        [
            "mcp = TaskServer(os.environ.get('NAME', 'x'))\n",
            "import datetime\nmcp = TaskServer('x', instructions=f'It is {datetime.date.today()}')\n",
            "mcp = TaskServer('x', instructions=open(__file__).read())\n",
            "NAME = 'x'\nif os.environ.get('Y'):\n    NAME = 'y'\nmcp = TaskServer(NAME)\n",
            "if os.environ:\n    mcp = TaskServer('x')\nelse:\n    mcp = TaskServer('y')\n",
            "OPTIONS = {'version': '1'}\nmcp = TaskServer('x', **OPTIONS)\n",
            "mcp = TaskServer('x', extensions=[])\n",
            "class Own(TaskServer):\n    pass\nmcp = Own('x')\n",
            "def make() -> TaskServer:\n    return TaskServer('x')\nmcp = make()\n",
            "mcp = TaskServer('x')\nif os.environ:\n    @mcp.completion()\n    async def all(*of):\n        pass\n",
            "mcp = TaskServer('x')\nmcp.middleware.append(lambda ctx, call_next: call_next(ctx))\n",
            "mcp = TaskServer('x')\nmcp.lowlevel.instructions = str(os.getpid())\n",
            "mcp = TaskServer('x')\nother = mcp\n",
            "mcp = TaskServer('x')\nprint(mcp)\n",
            "mcp = TaskServer('x')\nglobals()['mcp'].lowlevel.instructions = str(os.getpid())\n",
            "mcp = TaskServer('x')\nif os.environ:\n    @mcp.tool(task=True)\n    def dig():\n        return ''\n",
            "mcp = TaskServer('x')\n@mcp.tool(task=bool(os.environ))\ndef dig() -> str:\n    return ''\n",
            "from taskmill.server import *\nmcp = TaskServer('x')\n",
            "import os as text\nmcp = TaskServer('x', instructions=text.getcwd())\n",
            "def dedent(text):\n    return str(os.getpid())\nmcp = TaskServer('x', instructions=dedent('A'))\n",
        ],
    )
    def test_these_may_not(self, text: str) -> None:
        assert not self.judge(text)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("mcp = FastMCP('x', 'Ask.', version='2')\n" + ASYNC_TASK, True),
            ("mcp = FastMCP(name='x', auth=None)\n@mcp.tool\ndef dig() -> str:\n    return ''\n", True),
            ("mcp = FastMCP('x')\n@mcp.tool(task=Policy())\nasync def dig() -> str:\n    return ''\n", True),
            ("mcp = FastMCP('x')\n@mcp.tool(task=Policy(mode='forbidden'))\ndef dig() -> str:\n    return ''\n", False),
            ("mcp = FastMCP()\n" + ASYNC_TASK, False),
            ("mcp = FastMCP('x', tasks=True)\n" + ASYNC_TASK, False),
            ("mcp = FastMCP('x', instructions=str(os.getpid()))\n" + ASYNC_TASK, False),
            ("class Own(FastMCP):\n    pass\nmcp = Own('x')\n" + ASYNC_TASK, False),
            ("mcp = FastMCP('x')\nmcp.mount(FastMCP('y'))\n" + ASYNC_TASK, False),
            ("mcp = FastMCP('x')\nmcp.add_middleware(Middleware())\n" + ASYNC_TASK, False),
            ("mcp = FastMCP('x')\nif os.environ:\n    @mcp.tool(task=True)\n    async def dig() -> str: ...\n", False),
            ("mcp = FastMCP('x')\n@mcp.tool\n@tool(task=True)\nasync def dig() -> str: ...\n", False),
        ],
    )
    def test_of_fastmcp_servers_those_do_that_say_it_plainly(self, text: str, *, expected: bool) -> None:
        assert self.judge(FASTMCP + text, of=FastMCPHost) is expected

    @pytest.mark.parametrize(("text", "expected"), [("VERSION = 1\n", True), ("from . import served\n", False)])
    def test_a_server_in_a_package_may_if_the_package_does_not_use_it(self, text: str, *, expected: bool) -> None:
        Path("tools").mkdir()
        Path("tools/__init__.py").write_text(text)
        Path("tools/served.py").write_text(HEAD + "mcp = TaskServer('x')\n" + TASK)
        server = load_server("tools/served.py")
        modules = [sys.modules["tools"], sys.modules["tools.served"]]

        assert is_fixed(server, os.path.abspath("tools/served.py"), modules) is expected

    def test_a_server_that_another_module_has_may_not(self) -> None:
        Path("tools.py").write_text("from taskmill_app import s as app\n")
        Path("s.py").write_text(HEAD + "mcp = TaskServer('x')\nimport tools\n")
        server = load_server("s.py")
        modules = [sys.modules["taskmill_app.s"], importlib.import_module("tools")]

        assert not is_fixed(server, os.path.abspath("s.py"), modules)


class TestTheHandshake:
    def line(self, method: str, number: int | str | None = 1, **params: Any) -> bytes:
        identified = {} if number is None else {"id": number}
        return json.dumps({"jsonrpc": "2.0", **identified, "method": method, "params": params}).encode() + b"\n"

    def text(self, number: int, result: Any) -> str:
        return json.dumps({"jsonrpc": "2.0", "id": number, "result": result})

    def known(self) -> dict[str, Any]:
        """The answers to a probe, to `initialize` behind it, and to `initialize` alone."""
        both, alone = Handshake({}), Handshake({})
        both.receive(self.line("server/discover", 1))
        both.receive(self.line("initialize", 2))
        alone.receive(self.line("initialize", 1))
        for handshake, number, result in ((both, 1, DISCOVER), (both, 2, INITIALIZED), (alone, 1, INITIALIZED)):
            assert handshake.send(self.text(number, result))
        return {**both.learned, **alone.learned}

    def test_a_known_request_is_answered_under_its_own_id(self) -> None:
        handshake = Handshake(self.known())

        answer, passes = handshake.receive(self.line("server/discover", "seven"))

        assert answer is not None
        assert json.loads(answer) == {"jsonrpc": "2.0", "id": "seven", "result": DISCOVER}
        assert not passes

    def test_a_known_initialize_goes_on_and_the_second_answer_is_dropped(self) -> None:
        handshake = Handshake(self.known())

        answer, passes = handshake.receive(self.line("initialize", 4))

        assert answer is not None
        assert passes
        assert handshake.receive(self.line("tools/list", 5)) == (None, True)
        assert not handshake.send(self.text(4, INITIALIZED))
        assert handshake.send(self.text(4, INITIALIZED)), "only one"
        assert not handshake.differs

    def test_the_same_request_with_other_parameters_is_the_servers(self) -> None:
        assert Handshake(self.known()).receive(self.line("initialize", 1, protocolVersion="x")) == (None, True)

    @pytest.mark.parametrize(
        "first",
        [
            b"\n",
            b"[]\n",
            b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}\n',
            b'{"jsonrpc": "2.0", "id": 1, "method": "server/discover", "more": 1}\n',
            b'{"jsonrpc": "2.0", "method": "initialize"}\n',
            b'{"jsonrpc": "2.0", "id": null, "method": "initialize"}\n',
            b'{"jsonrpc": "2.0", "id": true, "method": "initialize"}\n',
        ],
    )
    def test_after_anything_else_the_server_answers_all(self, first: bytes) -> None:
        handshake = Handshake(self.known())

        assert handshake.receive(first) == (None, True)
        assert handshake.receive(self.line("initialize", 2)) == (None, True)

    def test_once_the_server_answers_one_it_answers_all(self) -> None:
        known = {key: value for key, value in self.known().items() if json.loads(key)[1] == "initialize"}
        handshake = Handshake(known)

        assert handshake.receive(self.line("server/discover", 1)) == (None, True)
        assert handshake.receive(self.line("initialize", 2)) == (None, True)

    def test_ids_that_a_host_uses_again_teach_nothing(self) -> None:
        handshake = Handshake({})
        handshake.receive(self.line("server/discover", 0))
        handshake.receive(self.line("initialize", 0))
        handshake.send(self.text(0, DISCOVER))
        handshake.send(self.text(0, INITIALIZED))

        assert handshake.learned == {}

    def test_an_error_or_the_result_of_another_request_is_not_learned(self) -> None:
        handshake = Handshake({})
        handshake.receive(self.line("server/discover", 1))
        handshake.receive(self.line("initialize", 2))
        handshake.send(json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "none"}}))
        handshake.send(self.text(2, {"tools": []}))

        assert handshake.learned == {}
