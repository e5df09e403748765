"""`taskmill call`: through the real protocol to a running server, or with a stack of its own that ends with it.

What it does at a terminal (a bar, questions, Ctrl-C) is in `test_cli_terminal.py`.
"""

import json
import signal
import socket
from collections.abc import Iterator

import pytest

from tests.support.command_line import CommandLine
from tests.support.waiting import WAIT_SECONDS, eventually


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A command line whose server runs, for calls that need no stack of their own."""
    with CommandLine(tmp_path_factory.mktemp("shared")).serving() as command_line:
        yield command_line


@pytest.fixture
def url(shared: CommandLine) -> str:
    return shared.environment["TEST_URL"]


class TestToARunningServer:
    def test_a_plain_tool_returns_at_once(self, shared: CommandLine, url: str) -> None:
        done = shared.run("call", "--url", url, "add", "a=1", "b=2")
        assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")

    def test_the_file_may_be_named_beside_the_url(self, shared: CommandLine, url: str) -> None:
        done = shared.run("call", "server.py", "add", "a=1", "b=2", "--url", url)
        assert (done.returncode, done.stdout) == (0, "3\n")

    def test_a_task_is_followed_with_lines_on_standard_error(self, shared: CommandLine, url: str) -> None:
        with shared.started("call", "--url", url, "dig", "gate=opened") as call:
            eventually(lambda: "dig: half of the hole (50%)" in call.log.read_text())
            (shared.folder / "opened").touch()
            assert call.first_line() == "dug"
            assert call.process.wait(WAIT_SECONDS) == 0

    def test_json_is_the_whole_result(self, shared: CommandLine, url: str) -> None:
        done = shared.run("call", "--url", url, "dig", "gate=server.py", "--json")
        assert done.returncode == 0
        expected = {"content": [{"type": "text", "text": "dug"}], "structuredContent": {"result": "dug"}}
        assert expected.items() <= json.loads(done.stdout).items()

    def test_structure_without_text_is_printed_as_json(self, shared: CommandLine, url: str) -> None:
        done = shared.run("call", "--url", url, "figures")
        assert done.returncode == 0
        assert json.loads(done.stdout) == {"a": 1}

    def test_arguments_keep_their_types(self, shared: CommandLine, url: str) -> None:
        shared.write("words.json", '["x", "y"]')
        done = shared.run("call", "--url", url, "echo", "text=12", "more=@words.json")
        assert done.stdout == "'12' ['x', 'y']\n"
        done = shared.run("call", "--url", url, "echo", "--args", '{"text": "a", "more": ["b"]}', "text=c")
        assert done.stdout == "'c' ['b']\n"

    def test_a_tool_error_is_exit_code_1_and_nothing_on_standard_output(self, shared: CommandLine, url: str) -> None:
        done = shared.run("call", "--url", url, "stumble")
        assert (done.returncode, done.stdout) == (1, "")
        assert "the ground was uneven" in done.stderr

    def test_a_tool_error_as_json_is_still_the_result(self, shared: CommandLine, url: str) -> None:
        done = shared.run("call", "--url", url, "stumble", "--json")
        assert done.returncode == 1
        assert json.loads(done.stdout)["isError"] is True

    def test_an_unknown_tool_lists_those_there_are(self, shared: CommandLine, url: str) -> None:
        done = shared.run("call", "--url", url, "multiply")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(
            "taskmill: There is no tool 'multiply'. The server has:\n    add  Add two numbers."
        )

    def test_an_unknown_argument_lists_those_there_are(self, shared: CommandLine, url: str) -> None:
        done = shared.run("call", "--url", url, "add", "a=1", "c=2")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("taskmill: add has no argument 'c'. It takes:\n    a  integer, required\n")

    @pytest.mark.parametrize("tool", ["add", "dig"])
    def test_a_value_of_a_wrong_type_is_refused_in_words(self, shared: CommandLine, url: str, tool: str) -> None:
        words = {"add": ["a=abc", "b=2"], "dig": ["--args", '{"gate": 7}']}[tool]
        done = shared.run("call", "--url", url, tool, *words)
        assert (done.returncode, done.stdout) == (1, "")
        says = {"add": "a should be a valid integer, unable to", "dig": "gate should be a valid string, not 7"}[tool]
        assert done.stderr.startswith(f"taskmill: Error executing tool {tool}: {says}")
        assert "pydantic" not in done.stderr

    def test_a_question_is_answered_by_words_of_the_command(self, shared: CommandLine, url: str) -> None:
        done = shared.run("call", "--url", url, "greet", "--answer", "name=Ada", "--answer", "vip=true")
        assert (done.returncode, done.stdout) == (0, "accept name='Ada' age=30 vip=True\n")
        done = shared.run("call", "--url", url, "greet", "--answer", "decline")
        assert (done.returncode, done.stdout) == (0, "decline None\n")

    def test_a_question_fails_the_tool_when_no_person_can_be_asked(self, shared: CommandLine, url: str) -> None:
        """Standard input is no terminal, so the client does not declare elicitation."""
        done = shared.run("call", "--url", url, "greet")
        assert (done.returncode, done.stdout) == (1, "")
        assert "did not declare the elicitation capability" in done.stderr

    def test_a_detached_task_can_be_attached_to(self, shared: CommandLine, url: str) -> None:
        detached = shared.run("call", "--url", url, "dig", "gate=later", "--detach")
        assert detached.returncode == 0
        task_id = detached.stdout.strip()
        assert f"taskmill call --attach {task_id} --url {url}" in detached.stderr
        (shared.folder / "later").touch()
        attached = shared.run("call", "--url", url, "--attach", task_id)
        assert (attached.returncode, attached.stdout) == (0, "dug\n")

    @pytest.mark.slow
    @pytest.mark.timeout(240)
    def test_the_beginning_of_an_id_is_enough_to_attach(self, shared: CommandLine, url: str) -> None:
        task_id = shared.run("call", "--url", url, "dig", "gate=server.py", "--detach").stdout.strip()
        by_file = shared.run("call", "--attach", task_id[:10], "server.py")
        assert (by_file.returncode, by_file.stdout) == (0, "dug\n"), by_file.stderr
        too_short = shared.run("call", "--attach", task_id[:3], "server.py")
        assert (too_short.returncode, too_short.stdout) == (2, "")
        assert "Give at least the first 4 characters" in too_short.stderr

    def test_an_unknown_task_is_not_found(self, shared: CommandLine, url: str) -> None:
        done = shared.run("call", "--url", url, "--attach", "nothing")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("taskmill: Task not found")

    def test_after_the_timeout_the_task_continues(self, shared: CommandLine, url: str) -> None:
        done = shared.run("call", "--url", url, "dig", "gate=much-later", "--timeout", "8")
        assert (done.returncode, done.stdout) == (1, "")
        assert "No result within 8 seconds." in done.stderr
        task_id = done.stderr.split("--attach ")[1].split()[0]
        (shared.folder / "much-later").touch()
        assert shared.run("call", "--url", url, "--attach", task_id).stdout == "dug\n"

    def test_an_interrupt_without_a_terminal_leaves_the_task(self, shared: CommandLine, url: str) -> None:
        log = shared.folder / "call.log"
        before = log.read_text().count("half of the hole") if log.exists() else 0
        with shared.started("call", "--url", url, "dig", "gate=after-that") as call:
            eventually(lambda: call.log.read_text().count("half of the hole") > before)
            call.process.send_signal(signal.SIGINT)
            assert call.process.wait(WAIT_SECONDS) == 130
        assert "The task continues." in call.log.read_text()


class TestWithAStackOfItsOwn:
    def test_everything_starts_and_ends_with_the_call(self, cli: CommandLine) -> None:
        (cli.folder / "gate").touch()
        done = cli.run("call", "server.py", "dig", "gate=gate")
        assert (done.returncode, done.stdout) == (0, "dug\n")
        assert cli.processes() == {}

    def test_what_a_tool_prints_is_not_the_result(self, cli: CommandLine) -> None:
        cli.write("server.py", PRINTING)
        done = cli.run("call", "server.py", "talk")
        assert (done.returncode, done.stdout) == (0, "result\n")
        assert "heard at import" in done.stderr
        assert "heard in the tool" in done.stderr

    def test_a_detached_task_continues_in_a_worker_that_outlives_the_call(self, cli: CommandLine) -> None:
        detached = cli.run("call", "server.py", "dig", "gate=gate", "--detach")
        assert detached.returncode == 0, detached.stderr
        task_id = detached.stdout.strip()
        (worker,) = cli.processes("taskmill.cli.main")
        assert (cli.folder / ".taskmill" / "worker.log").exists()
        (cli.folder / "gate").touch()
        attached = cli.run("call", "--attach", task_id, "server.py")
        assert (attached.returncode, attached.stdout) == (0, "dug\n")
        assert set(cli.processes("taskmill.cli.main")) == {worker}, "the stack of the second call has ended"

    def test_an_interrupted_start_leaves_nothing(self, cli: CommandLine) -> None:
        with cli.started("call", "server.py", "dig", "gate=gate") as call:
            eventually(lambda: cli.processes("taskmill.cli.main serve"))
            call.process.send_signal(signal.SIGTERM)
            assert call.process.wait(WAIT_SECONDS) == 128 + signal.SIGTERM
        assert cli.processes() == {}

    def test_a_killed_call_leaves_nothing(self, cli: CommandLine) -> None:
        with cli.started("call", "server.py", "dig", "gate=gate") as call:
            eventually(lambda: "half of the hole" in call.log.read_text())
            call.process.kill()
            call.process.wait(WAIT_SECONDS)
            assert eventually(lambda: not cli.processes())

    def test_a_file_without_a_server_is_reported_once(self, cli: CommandLine) -> None:
        cli.write("empty.py", "")
        done = cli.run("call", "empty.py", "dig", "gate=gate")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.count("taskmill: empty.py has no server object at its top level.") == 1
        assert cli.processes() == {}

    def test_no_event_loop_is_left_open(self, cli: CommandLine) -> None:
        """Since Python 3.13 the end of an open one is a traceback on standard error."""
        done = cli.run("call", "server.py", "dig", "gate=server.py", PYTHONWARNINGS="always::ResourceWarning")
        assert (done.returncode, done.stdout) == (0, "dug\n")
        assert "unclosed event loop" not in done.stderr
        assert "Traceback" not in done.stderr


class TestTheCommandLine:
    def test_a_url_that_does_not_answer_is_one_line_and_69(self, cli: CommandLine) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            url = f"http://127.0.0.1:{probe.getsockname()[1]}/mcp"
        done = cli.run("call", "--url", url, "add", "a=1")
        assert (done.returncode, done.stdout, done.stderr) == (69, "", f"taskmill: No MCP server answers at {url}.\n")

    def test_the_address_of_a_server_is_enough(self, shared: CommandLine, url: str) -> None:
        for address in (url.removesuffix("/mcp"), url + "/"):
            assert shared.run("call", "--url", address, "add", "a=1", "b=2").stdout == "3\n"

    @pytest.mark.parametrize("path", ["/", "/other", "/healthz"])
    def test_an_address_that_is_no_endpoint_is_one_line(self, shared: CommandLine, url: str, path: str) -> None:
        done = shared.run("call", "--url", url.removesuffix("/mcp") + path, "add", "a=1", "b=2")
        assert (done.returncode, done.stdout) == (1, "")
        assert "answers, but not as an MCP endpoint" in done.stderr
        assert "Traceback" not in done.stderr

    @pytest.mark.parametrize("text", ["localhost:8000", "ftp://x/mcp", "http://"])
    def test_what_is_no_address_is_refused_with_an_example(self, cli: CommandLine, text: str) -> None:
        done = cli.run("call", "--url", text, "add")
        assert (done.returncode, done.stdout) == (2, "")
        assert f"--url must be an address such as http://127.0.0.1:8000, not {text!r}." in done.stderr

    @pytest.mark.parametrize(
        ("words", "expected_text"),
        [
            (["server.py"], "Name file and tool"),
            ([], "Name file and tool"),
            (["--attach", "x"], "Name the server of the task"),
            (["--attach", "x", "server.py", "dig"], "--attach takes no tool"),
            (["--attach", "x", "server.py", "--detach"], "Give either --attach or --detach"),
            (["server.py", "dig", "--nonsense"], "No such option: --nonsense"),
        ],
    )
    def test_wrong_usage_is_exit_code_2(self, cli: CommandLine, words: list[str], expected_text: str) -> None:
        done = cli.run("call", *words)
        assert (done.returncode, done.stdout) == (2, "")
        assert expected_text in done.stderr

    def test_the_version_is_printed(self, cli: CommandLine) -> None:
        assert cli.run("--version").stdout.startswith("taskmill ")


PRINTING = """
from taskmill.server import TaskServer

print("heard at import")
mcp = TaskServer("Tests")

@mcp.tool(task=True)
async def talk() -> str:
    print("heard in the tool", flush=True)
    return "result"
"""


@pytest.mark.slow
def test_tasks_of_the_embedded_redis_are_listed_without_a_server(cli: CommandLine) -> None:
    assert cli.run("call", "server.py", "dig", "gate=server.py").stdout == "dug\n"
    eventually(lambda: not cli.processes())

    done = cli.run("tasks", "list")

    assert done.stdout.split("\t")[1:3] == ["dig", "completed"]
    eventually(lambda: not cli.processes())


@pytest.mark.slow
def test_a_call_shows_what_its_tool_logs_and_the_traceback_from_the_tools_own_line(cli: CommandLine) -> None:
    cli.write(
        "shop.py",
        "import logging\nimport structlog\nfrom taskmill.server import TaskServer\nmcp = TaskServer('Shop')\n"
        "log = structlog.get_logger()\n"
        "@mcp.tool(task=True)\nasync def sell(n: int) -> float:\n"
        "    logging.getLogger(__name__).info('selling %s', n)\n    log.info('price.asked', n=n)\n    return 1 / n\n",
    )

    done = cli.run("call", "shop.py", "sell", "n=0", "--log-form", "text")

    lines = done.stderr.splitlines()
    assert any("selling 0" in line for line in lines)
    assert any("price.asked" in line for line in lines)
    assert "task.settled" not in done.stderr
    trace = lines.index("Traceback (most recent call last):")
    assert lines[trace + 1].endswith('shop.py", line 10, in sell')
    assert "ZeroDivisionError: division by zero" in lines
    assert done.returncode == 1


SLOW_END = """
import asyncio
from contextlib import asynccontextmanager
from taskmill import TaskServer

@asynccontextmanager
async def lifespan(server):
    yield
    await asyncio.sleep(2.5)

mcp = TaskServer("Slow end", lifespan=lifespan)

@mcp.tool(task=True)
async def quick() -> str:
    return "done"
"""


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_call_whose_stop_takes_long_speaks_of_no_other_task_where_there_is_none(cli: CommandLine) -> None:
    cli.write("slow_end.py", SLOW_END)
    done = cli.run("call", "slow_end.py", "quick")
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert "another task" not in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_call_whose_worker_has_taken_on_another_task_says_that_it_finishes_it(cli: CommandLine) -> None:
    """A task that a killed call left: the next call of the file runs it, too."""
    with cli.started("call", "server.py", "dig", "gate=never") as call:
        eventually(lambda: "half of the hole" in call.log.read_text())
        call.process.kill()
        call.process.wait(WAIT_SECONDS)
    eventually(lambda: not cli.processes())
    done = cli.run("call", "server.py", "dig", "gate=server.py", TASKMILL_GRACE="5")
    assert (done.returncode, done.stdout) == (0, "dug\n")
    assert "The worker finishes another task first." in done.stderr
