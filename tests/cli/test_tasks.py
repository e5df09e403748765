"""`taskmill tasks`: the same over a server's API and as operator of a Redis, for people and for programs."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.request import Request, urlopen

import pytest

from tests.support.command_line import SERVER, CommandLine, Screen, is_ready
from tests.support.waiting import WAIT_SECONDS, eventually

TOKEN = "0123456789abcdef"
OPERATED = ("queues", "tools", "schedules", "workers")
PAINT = '''
@mcp.tool(task=QUICK)
async def paint(gate: str, ctx: Context) -> str:
    """Print control characters that a terminal would obey."""
    await ctx.report_progress(1, 2, "\\x1b[31mred\\x07 \\x9b5m\\u202ebackwards")
    while not Path(gate).exists():
        await asyncio.sleep(0.02)
    return "\\x1b]0;title\\x07painted"


@mcp.tool(task=QUICK)
async def refuse() -> str:
    """Fail as the protocol does."""
    raise MCPError(-32050, "no \\x1b[5mpaint")


@mcp.tool(task=QUICK)
async def smear() -> str:
    """Raise control characters that a terminal would obey."""
    raise OSError("\\x1b[31mred\\x07 \\x9b5m\\u202ebackwards\\nforged\\tline")


@mcp.tool(task=QUICK)
async def forge() -> str:
    """Return lines that look like a command's own."""
    return "done\\r\\nstatus\\tfailed\\x1b[31m\\u202e"


@mcp.tool(task=QUICK)
async def crumble() -> str:
    """Fail for good."""
    raise OSError("the wall was rotten")


@mcp.tool(task=TaskConfig(schedule="0 3 1 1 *"))
async def nightly() -> str:
    """Run by itself, once a year."""
    return "done"


@mcp.tool(task=TaskConfig(retries=2, backoff=600))
async def falter() -> str:
    """Fail, and be tried again in ten minutes."""
    raise OSError("not yet")
'''
UNPRINTABLE = ("\x1b", "\x07", "\x9b", "\u202e")


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A command line whose server runs, with an operator's token."""
    command_line = CommandLine(tmp_path_factory.mktemp("tasks"), {"TASKMILL_API_OPERATOR_TOKEN": TOKEN})
    command_line.write("server.py", SERVER.replace("from pydantic", "from mcp import MCPError\nfrom pydantic") + PAINT)
    command_line.write("gate", "")
    with command_line.serving():
        yield command_line


@pytest.fixture(params=["url", "redis"])
def place(request: pytest.FixtureRequest, cli: CommandLine) -> list[str]:
    """Options that name the source: the API, or none, which means the embedded Redis that runs."""
    return ["--url", cli.environment["TEST_URL"]] if request.param == "url" else []


@pytest.fixture
def at_url(cli: CommandLine) -> list[str]:
    return ["--url", cli.environment["TEST_URL"]]


def ask(cli: CommandLine, path: str, body: dict[str, Any] | None = None, **headers: str) -> dict[str, Any]:
    """One request to the server; cheaper than a command."""
    url = cli.environment["TEST_URL"].removesuffix("/mcp") + path
    sent = {"authorization": f"Bearer {TOKEN}", "content-type": "application/json", "accept": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url, data, sent | headers), timeout=WAIT_SECONDS) as reply:
        text = reply.read().decode()
    lines = [line.removeprefix("data:") for line in text.splitlines() if line.startswith("data:")]
    answer: dict[str, Any] = json.loads(lines[-1] if lines else text)
    return answer


def call(cli: CommandLine, tool: str, **arguments: str) -> str:
    """Start a task; its id."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {
            "elicitation": {"form": {}},
            "extensions": {"io.modelcontextprotocol/tasks": {}},
        },
    }
    params = {"name": tool, "arguments": arguments, "_meta": meta}
    headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": tool}
    headers["accept"] = "application/json, text/event-stream"
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return str(ask(cli, "/mcp", body, **headers)["result"]["taskId"])


def tasks(cli: CommandLine, *words: str, code: int = 0) -> str:
    done = cli.run("tasks", *words)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def shown(cli: CommandLine, task_id: str) -> dict[str, Any]:
    """The task and its events as the API shows them."""
    return ask(cli, f"/api/tasks/{task_id}?history=1")


def cancelled(cli: CommandLine, task_id: str) -> None:
    ask(cli, f"/api/tasks/{task_id}/cancel", {})


def until(cli: CommandLine, task_id: str, status: str) -> dict[str, Any]:
    return eventually(lambda: task if (task := shown(cli, task_id))["status"] == status else {})


class TestLooking:
    def test_a_list_is_lines_with_tabs_in_a_pipe(self, cli: CommandLine, place: list[str]) -> None:
        first, second = call(cli, "dig", gate="gate"), call(cli, "refuse")
        until(cli, first, "completed")
        until(cli, second, "failed")

        lines = [line.split("\t") for line in tasks(cli, "list", "--limit", "2", *place).splitlines()]

        assert [(line[0], line[1], line[2], line[3]) for line in lines] == [
            (second, "refuse", "failed", ""),
            (first, "dig", "completed", "50"),
        ]

    def test_json_is_the_apis_own_whichever_way_it_came(self, cli: CommandLine, at_url: list[str]) -> None:
        task_id = call(cli, "refuse")
        until(cli, task_id, "failed")

        listed = [json.loads(tasks(cli, "list", "--limit", "1", "--json", *place)) for place in (at_url, [])]
        looked = [json.loads(tasks(cli, "show", task_id, "--history", "--json", *place)) for place in (at_url, [])]

        assert listed[0]["tasks"] == listed[1]["tasks"]
        assert listed[0]["tasks"][0]["id"] == task_id
        assert [task.pop("attempt_history")[0]["attempt"] for task in looked] == [1, 1]
        assert looked == [shown(cli, task_id)] * 2

    def test_a_list_continues_from_a_cursor_and_can_be_filtered(self, cli: CommandLine, at_url: list[str]) -> None:
        ids = [call(cli, "refuse") for _ in range(2)]
        until(cli, ids[1], "failed")

        page = json.loads(tasks(cli, "list", "--limit", "1", "--json", *at_url))
        rest = tasks(cli, "list", "--limit", "1", "--cursor", page["next_cursor"], *at_url)
        failed = tasks(cli, "list", "--status", "failed, cancelled", "--tool", "refuse", "--limit", "2", *at_url)

        assert (page["tasks"][0]["id"], rest.split("\t")[0]) == (ids[1], ids[0])
        assert [line.split("\t")[0] for line in failed.splitlines()] == ids[::-1]
        assert tasks(cli, "list", "--tool", "nonsense", *at_url) == ""

    def test_the_next_cursor_is_printed_on_standard_error(self, cli: CommandLine, at_url: list[str]) -> None:
        for _ in range(2):
            call(cli, "refuse")

        done = cli.run("tasks", "list", "--limit", "1", *at_url)

        assert len(done.stdout.splitlines()) == 1
        assert done.stderr.startswith("taskmill: There are more: --cursor ")

    def test_a_task_is_a_field_a_line(self, cli: CommandLine, at_url: list[str]) -> None:
        task_id = call(cli, "dig", gate="gate")
        until(cli, task_id, "completed")

        lines = tasks(cli, "show", task_id, *at_url).splitlines()

        assert {f"id\t{task_id}", "tool\tdig", "status\tcompleted", "attempts\t1"} <= set(lines)
        assert lines[-1] == "result\tdug"

    def test_lines_of_a_result_cannot_pass_for_fields_of_the_task(self, cli: CommandLine, at_url: list[str]) -> None:
        task_id = call(cli, "forge")
        until(cli, task_id, "completed")

        piped = tasks(cli, "show", task_id, *at_url).splitlines()

        assert [line for line in piped if line.startswith("status\t")] == ["status\tcompleted"]
        assert piped[-1] == "result\tdone\\r\\nstatus\\tfailed\\x1b[31m\\u202e"
        with closing(Screen(cli, ["tasks", "show", task_id, *at_url])) as screen:
            assert screen.end() == 0
        assert "\n  status\tfailed\\x1b[31m\\u202e" in screen.shown.replace("\r", "")
        watched = tasks(cli, "watch", task_id, *at_url)
        called = cli.run("call", "--attach", task_id, *at_url).stdout
        assert watched == called == "done\nstatus\tfailed\\x1b[31m\\u202e\n"
        for words in (["tasks", "show", task_id, "--json"], ["call", "--attach", task_id, "--json"]):
            assert cli.run(*words, *at_url).stdout.isascii()

    def test_a_task_between_attempts_shows_the_next_attempt_its_time_and_reason(
        self, cli: CommandLine, at_url: list[str]
    ) -> None:
        task_id = call(cli, "falter")
        eventually(lambda: shown(cli, task_id)["failures"])

        fields = dict(line.split("\t", 1) for line in tasks(cli, "show", task_id, *at_url).splitlines())
        (line,) = tasks(cli, "list", "--tool", "falter", "--limit", "1", *at_url).splitlines()
        cancelled(cli, task_id)

        told = {name: fields[name] for name in ("status", "attempts", "failures", "retries", "reason")}
        assert told == {"status": "pending", "attempts": "1", "failures": "1", "retries": "2", "reason": "crashed"}
        assert fields["due_at"] > fields["updated_at"]
        assert "attempt 2 of 3 in " in line
        assert line.endswith(" s: the last one failed")

    def test_an_unknown_task_is_one_line_and_exit_code_1(self, cli: CommandLine, place: list[str]) -> None:
        for word in ("show", "watch", "cancel", "rerun") if place else ("show", "watch"):
            output = tasks(cli, word, "never-seen", *place, code=1)
            assert output == "taskmill: Task not found: it never existed, has expired, or belongs to another caller.\n"

    def test_a_wrong_state_or_cursor_is_an_error(self, cli: CommandLine, at_url: list[str]) -> None:
        for given in (("--status", "asleep"), ("--where", "status=asleep")):
            assert "status must be some of pending, " in tasks(cli, "list", *given, *at_url, code=2)
        assert "KEY=VALUE, with one of these keys: status" in tasks(cli, "list", "--where", "state=failed", code=2)
        assert "tool is given twice" in tasks(cli, "list", "--tool", "a", "--where", "tool=b", code=2)
        for place in (at_url, []):
            assert "Start again without one" in tasks(cli, "list", "--cursor", "forged", *place, code=1)


class TestDoing:
    def test_a_cancel_prints_the_id_and_may_be_repeated(self, cli: CommandLine, place: list[str]) -> None:
        ids = [call(cli, "dig", gate="never") for _ in range(2)]

        assert tasks(cli, "cancel", *ids, *place).splitlines() == ids
        assert json.loads(tasks(cli, "cancel", ids[0], "--json", *place))["status"] == "cancelled"
        assert shown(cli, ids[1])["reason"] == "operator"

    def test_a_cancel_of_an_ended_task_is_refused(self, cli: CommandLine, at_url: list[str]) -> None:
        task_id = call(cli, "refuse")
        until(cli, task_id, "failed")

        assert "The task has already ended: failed." in tasks(cli, "cancel", task_id, *at_url, code=1)

    def test_a_rerun_prints_the_new_id_and_runs(self, cli: CommandLine, place: list[str]) -> None:
        task_id = call(cli, "dig", gate=f"again-{len(place)}")
        cancelled(cli, task_id)

        again = tasks(cli, "rerun", task_id, *place).strip()
        (cli.folder / f"again-{len(place)}").touch()

        assert until(cli, again, "completed")["rerun_of"] == task_id
        assert shown(cli, task_id)["rerun_as"] == again
        assert "succeeded, so its arguments were not kept" in tasks(cli, "rerun", again, *place, code=1)

    def test_two_reruns_with_one_key_make_one_task(self, cli: CommandLine, at_url: list[str]) -> None:
        task_id = call(cli, "refuse")
        until(cli, task_id, "failed")

        output = [tasks(cli, "rerun", task_id, "--key", key, *at_url) for key in ("a", "a", "b")]

        assert (output[0] == output[1], output[1] == output[2]) == (True, False)

    def test_dead_letters_are_listed_and_run_again(self, cli: CommandLine, place: list[str]) -> None:
        first, second = [call(cli, "crumble") for _ in range(2)]
        for task_id in (first, second):
            until(cli, task_id, "completed")

        lines = [line.split("\t") for line in tasks(cli, "list", "--dead", "--limit", "2", *place).splitlines()]
        again = tasks(cli, "rerun", first, *place).strip()
        until(cli, again, "completed")
        left = json.loads(tasks(cli, "list", "--dead", "--tool", "crumble", "--limit", "2", "--json", *place))

        assert {(line[0], line[1], line[5]) for line in lines} == {
            (task_id, "crumble", "the tool broke") for task_id in (first, second)
        }
        assert [task["id"] for task in left["tasks"]] == [again, second]
        assert {task["reason"] for task in left["tasks"]} == {"crashed"}

    def test_many_are_counted_and_cancelled_or_run_again_only_when_that_is_confirmed(
        self, cli: CommandLine, place: list[str]
    ) -> None:
        tool = f"--where=tool={'dig' if place else 'crumble'}"
        made = [call(cli, "dig" if place else "crumble", **({"gate": "never"} if place else {})) for _ in range(2)]
        action = "cancel" if place else "rerun"
        if not place:
            for task_id in made:
                until(cli, task_id, "completed")

        assert "to " + action + ". Give --yes" in tasks(cli, action, tool, "--where", "since=1h", *place, code=2)
        for wrong in ([], [made[0], tool], [tool, "--all"]):
            tasks(cli, action, *wrong, *place, code=2)
        total = json.loads(tasks(cli, action, tool, "--yes", "--json", *place))

        assert (total["done"] >= 2, total["failed"]) == (True, 0)
        ends = [shown(cli, task_id) for task_id in made]
        assert all(end["status"] == "cancelled" if place else end["rerun_as"] for end in ends)
        if place:
            assert tasks(cli, "cancel", tool, *place) == "0 cancelled\n"

    def test_dead_letters_cannot_be_filtered_by_state(self, cli: CommandLine, at_url: list[str]) -> None:
        assert "either --dead or --status" in tasks(cli, "list", "--dead", "--status", "failed", *at_url, code=2)

    def test_a_caller_who_is_no_operator_learns_what_to_send(self, cli: CommandLine, at_url: list[str]) -> None:
        done = cli.run("tasks", "list", "--dead", *at_url, TASKMILL_API_OPERATOR_TOKEN="")
        assert (done.returncode, "TASKMILL_API_OPERATOR_TOKEN" in done.stderr) == (1, True)


class TestAnswering:
    def test_words_answer_what_a_task_asks(self, cli: CommandLine, place: list[str]) -> None:
        task_id = call(cli, "greet")
        until(cli, task_id, "input_required")

        assert tasks(cli, "answer", task_id[:8], "name=Ada", "vip=true", *place).strip() == task_id

        text = until(cli, task_id, "completed")["result"]["content"][0]["text"]
        assert text == "accept name='Ada' age=30 vip=True"

    def test_a_missing_field_is_named_and_nothing_is_answered(self, cli: CommandLine, at_url: list[str]) -> None:
        task_id = call(cli, "greet")
        until(cli, task_id, "input_required")

        output = tasks(cli, "answer", task_id, "name=Ada", *at_url, code=2)

        assert output.startswith("taskmill: The question 'Who is there?' needs vip as key=value. Its fields:")
        assert shown(cli, task_id)["status"] == "input_required"
        cancelled(cli, task_id)

    def test_a_task_that_asks_nothing_says_so(self, cli: CommandLine, at_url: list[str]) -> None:
        task_id = call(cli, "refuse")
        assert tasks(cli, "answer", task_id, "a=b", *at_url, code=1) == "taskmill: The task asks nothing now.\n"


class TestOperations:
    def test_queues_tools_schedules_and_workers_are_listed(self, cli: CommandLine, place: list[str]) -> None:
        rows = {what: json.loads(cli.run(what, "list", "--json", *place).stdout)[what] for what in OPERATED}
        lines = cli.run("workers", "list", *place).stdout.splitlines()

        assert [(row["name"], row["workers"]) for row in rows["queues"]] == [("default", 1)]
        assert {row["name"] for row in rows["tools"]} >= {"dig", "greet"}
        (nightly,) = rows["schedules"]
        assert (nightly["name"], nightly["schedule"], nightly["workers"]) == ("nightly", "0 3 1 1 *", 1)
        assert [line.split("\t")[0] for line in lines] == [row["name"] for row in rows["workers"]]

    def test_a_paused_tool_says_who_and_why_and_starts_again_when_it_is_resumed(
        self, cli: CommandLine, place: list[str]
    ) -> None:
        assert cli.run("tools", "pause", "refuse", "--reason", "moved\x1b[2J", *place).stdout == "refuse\n"
        task_id = call(cli, "refuse")
        eventually(lambda: shown(cli, task_id)["status_text"] == "tool is paused")

        line = next(line for line in cli.run("tools", "list", *place).stdout.splitlines() if line.startswith("refuse"))
        assert "moved" in line.split("\t")[-1]
        assert "\x1b" not in line
        assert cli.run("tools", "resume", "refuse", *place).returncode == 0
        until(cli, task_id, "failed")

    def test_a_name_that_nothing_has_is_refused_with_those_that_exist(self, cli: CommandLine, place: list[str]) -> None:
        done = cli.run("queues", "pause", "defualt", *place)
        assert (done.returncode, "There is no queue defualt. Known: " in done.stderr) == (1, True)


class TestIds:
    def test_the_beginning_of_an_id_shows_its_task(self, cli: CommandLine, place: list[str]) -> None:
        task_id = call(cli, "refuse")
        assert json.loads(tasks(cli, "show", task_id[:8], "--json", *place))["id"] == task_id

    def test_the_beginning_of_an_id_cancels_its_task(self, cli: CommandLine, at_url: list[str]) -> None:
        task_id = call(cli, "dig", gate="never")
        assert tasks(cli, "cancel", task_id[:8], *at_url).strip() == task_id

    def test_the_beginning_of_an_id_runs_its_task_again(self, cli: CommandLine, at_url: list[str]) -> None:
        task_id = call(cli, "refuse")
        until(cli, task_id, "failed")
        again = tasks(cli, "rerun", task_id[:8], *at_url).strip()
        assert shown(cli, again)["rerun_of"] == task_id

    def test_the_beginning_of_an_id_watches_its_task(self, cli: CommandLine, at_url: list[str]) -> None:
        task_id = call(cli, "refuse")
        assert "The task failed: " in tasks(cli, "watch", task_id[:8], *at_url, code=4)

    def test_a_slip_of_the_finger_cancels_nothing(self, cli: CommandLine, at_url: list[str]) -> None:
        task_id = call(cli, "dig", gate="never")
        assert "at least the first 4 characters" in tasks(cli, "cancel", task_id[:3], *at_url, code=2)
        assert shown(cli, task_id)["status"] != "cancelled"
        cancelled(cli, task_id)

    def test_who_may_list_nothing_learns_why_a_beginning_is_not_enough(self, cli: CommandLine) -> None:
        done = cli.run(
            "tasks", "show", "abcdefgh", "--url", cli.environment["TEST_URL"], TASKMILL_API_OPERATOR_TOKEN=""
        )
        assert done.returncode == 1
        assert done.stderr.startswith(
            "taskmill: 'abcdefgh' is no whole id, and the tasks cannot be listed to find it: "
        )


class TestWatching:
    def test_a_watch_ends_with_the_task_and_prints_its_result(self, cli: CommandLine, place: list[str]) -> None:
        gate = f"watched-{len(place)}"
        task_id = call(cli, "dig", gate=f"{gate}")
        with cli.started("tasks", "watch", task_id, *place) as watch:
            eventually(lambda: "dig: half of the hole (50%)" in watch.log.read_text())
            (cli.folder / gate).touch()
            assert watch.first_line() == "dug"
            assert watch.process.wait(WAIT_SECONDS) == 0

    @pytest.mark.parametrize(
        ("tool", "says", "code"),
        [
            ("refuse", "The task failed: no \\x1b[5mpaint", 4),
            ("stumble", "Error executing tool stumble: the ground was uneven", 1),
            ("crumble", "Error executing tool crumble (reference ", 3),
        ],
    )
    def test_the_exit_code_tells_how_a_task_ended_that_did_not_succeed(
        self, cli: CommandLine, at_url: list[str], tool: str, says: str, code: int
    ) -> None:
        task_id = call(cli, tool)

        done = cli.run("tasks", "watch", task_id, *at_url)

        assert (done.returncode, done.stdout) == (code, "")
        assert done.stderr.splitlines()[-1].startswith(f"taskmill: {says}")

    def test_a_cancelled_task_ends_its_watch(self, cli: CommandLine, at_url: list[str]) -> None:
        task_id = call(cli, "dig", gate="never")
        with cli.started("tasks", "watch", task_id, *at_url) as watch:
            eventually(lambda: "half of the hole" in watch.log.read_text())
            cancelled(cli, task_id)
            assert watch.process.wait(WAIT_SECONDS) == 5
            assert "The task was cancelled." in watch.log.read_text()

    def test_events_are_one_json_a_line_from_the_first_event(self, cli: CommandLine, place: list[str]) -> None:
        task_id = call(cli, "dig", gate="gate")
        until(cli, task_id, "completed")

        done = cli.run("tasks", "watch", task_id, "--json", *place)

        events = [json.loads(line) for line in done.stdout.splitlines()]
        assert events == shown(cli, task_id)["events"]
        assert (done.returncode, done.stderr) == (0, "")

    def test_a_watch_survives_a_restart_of_its_server(self, cli: CommandLine, at_url: list[str]) -> None:
        """The server is killed, and `taskmill run` starts it again at the same port."""
        task_id = call(cli, "dig", gate="survived")
        with cli.started("tasks", "watch", task_id, "--json", *at_url) as watch:
            lines = [watch.first_line() for _ in range(3)]
            (server,) = cli.processes("taskmill.cli.main serve")
            os.kill(server, signal.SIGKILL)
            eventually(lambda: server not in cli.processes("taskmill.cli.main serve"))
            (cli.folder / "survived").touch()
            lines.append(watch.first_line())
            assert watch.process.wait(WAIT_SECONDS) == 0
        assert [json.loads(line)["event"] for line in lines] == [1, 2, 3, 4]
        eventually(lambda: is_ready(int(cli.environment["TEST_URL"].split(":")[2].split("/")[0])))


class TestAtATerminal:
    def test_a_list_is_a_table_with_whole_ids(self, cli: CommandLine, at_url: list[str]) -> None:
        task_id = call(cli, "refuse")
        until(cli, task_id, "failed")
        with closing(Screen(cli, ["tasks", "list", "--limit", "1", *at_url])) as screen:
            assert screen.end() == 0
        title, line, *_ = screen.shown.splitlines()
        assert title.split() == ["id", "tool", "status", "%", "age"]
        assert line.split()[:3] == [task_id, "refuse", "failed"]

    @pytest.mark.parametrize("columns", ["80", "120"])
    def test_a_table_of_a_narrow_terminal_keeps_every_column_and_an_id_that_commands_take(
        self, cli: CommandLine, at_url: list[str], monkeypatch: pytest.MonkeyPatch, columns: str
    ) -> None:
        task_id = call(cli, "dig", gate="narrow")
        eventually(lambda: shown(cli, task_id)["percent"] == 50)
        monkeypatch.setattr(cli, "environment", cli.environment | {"COLUMNS": columns, "NO_COLOR": "1"})

        with closing(Screen(cli, ["tasks", "list", "--limit", "1", *at_url])) as screen:
            assert screen.end() == 0

        title, line, *_ = screen.shown.splitlines()
        prefix, tool, status, percent, age, *text = line.split()
        assert title.split() == ["id", "tool", "status", "%", "age"]
        assert (tool, status, percent, " ".join(text)) == ("dig", "running", "50", "half of the hole (50%)")
        assert age.endswith("s")
        assert (len(prefix), len(line.rstrip()) <= int(columns)) == (8, True)
        assert json.loads(tasks(cli, "show", prefix, "--json", *at_url))["id"] == task_id
        cancelled(cli, task_id)

    def test_a_watch_shows_a_bar_and_ctrl_c_leaves_the_task_running(self, cli: CommandLine, at_url: list[str]) -> None:
        task_id = call(cli, "dig", gate="barred")
        with closing(Screen(cli, ["tasks", "watch", task_id, *at_url])) as screen:
            screen.wait_for("50% half of the hole")
            assert "━" in screen.shown
            screen.type("\x03")
            screen.wait_for("The task continues.")
            assert screen.end() == 130
        assert shown(cli, task_id)["status"] == "running"

    def test_control_characters_of_a_tool_do_not_reach_the_terminal(
        self, cli: CommandLine, at_url: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        task_id = call(cli, "paint", gate="painted")
        expected_text = "\\x1b[31mred\\x07 \\x9b5m\\u202ebackwards"
        eventually(lambda: shown(cli, task_id)["percent"] == 50)
        wide = {"COLUMNS": "300", "NO_COLOR": "1"}
        monkeypatch.setattr(cli, "environment", cli.environment | wide)

        for words in (["list", "--limit", "1"], ["show", task_id, "--history"]):
            with closing(Screen(cli, ["tasks", *words, *at_url])) as screen:
                assert screen.end() == 0
            assert expected_text in screen.shown
            assert not [mark for mark in UNPRINTABLE if mark in screen.shown]
            piped = tasks(cli, *words, *at_url)
            assert expected_text in piped
            assert not [mark for mark in UNPRINTABLE if mark in piped]
        with closing(Screen(cli, ["tasks", "watch", task_id, *at_url])) as screen:
            screen.wait_for(expected_text)
            (cli.folder / "painted").touch()
            screen.wait_for("\\x1b]0;title\\x07painted")
            assert screen.end() == 0

    def test_errors_of_attempts_are_shown_to_operators_with_their_control_characters_escaped(
        self, cli: CommandLine, at_url: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        task_id = call(cli, "smear")
        until(cli, task_id, "completed")
        monkeypatch.setattr(cli, "environment", cli.environment | {"COLUMNS": "300", "NO_COLOR": "1"})

        for place in (at_url, []):
            with closing(Screen(cli, ["tasks", "show", task_id, "--history", *place])) as screen:
                assert screen.end() == 0
            piped = tasks(cli, "show", task_id, "--history", *place)
            for text in (screen.shown, piped):
                assert "OSError: \\x1b[31mred\\x07 \\x9b5m\\u202ebackwards\\nforged" in text
                assert "Traceback (most recent call last)" in text
                assert not [mark for mark in UNPRINTABLE if mark in text], repr(text)
            assert [line for line in piped.splitlines() if "forged" in line and "\t" not in line] == []
            (attempt,) = json.loads(tasks(cli, "show", task_id, "--history", "--json", *place))["attempt_history"]
            assert attempt["ended"] == "crashed"
            assert attempt["error"]["type"] == "OSError"
        assert "Traceback" not in tasks(cli, "show", task_id, *at_url)


class TestWhere:
    def test_without_a_running_server_it_names_the_options(self, tmp_path: Path) -> None:
        cli = CommandLine(tmp_path)

        output = tasks(cli, "list", code=2)

        assert "No server runs in" in output
        assert "--url http://host:port" in output
        assert not (tmp_path / ".taskmill").exists()

    def test_a_server_that_does_not_answer_is_tried_again(self, cli: CommandLine) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            assert "No answer from" in tasks(cli, "list", "--url", f"http://127.0.0.1:{port}", code=69)

    @pytest.mark.parametrize("url", ["localhost:8000", "http://"])
    def test_a_wrong_address_is_wrong_usage(self, cli: CommandLine, url: str) -> None:
        assert "--url must be an address" in tasks(cli, "list", "--url", url, code=2)

    def test_both_at_once_is_wrong_usage(self, cli: CommandLine, at_url: list[str]) -> None:
        assert "either --url or --redis-url" in tasks(cli, "list", *at_url, "--redis-url", "redis://x", code=2)

    @pytest.mark.parametrize("status", [200, 404])
    def test_another_kind_of_server_is_recognised(self, cli: CommandLine, status: int) -> None:
        class Other(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(b"<html>")

            def log_message(self, *_: object) -> None:
                """Nothing."""

        with HTTPServer(("127.0.0.1", 0), Other) as server:
            Thread(target=server.serve_forever, daemon=True).start()
            output = tasks(cli, "list", "--url", f"http://127.0.0.1:{server.server_port}", code=1)
            server.shutdown()
        assert "is it a Taskmill server?" in output

    def test_a_wrong_token_and_no_token_have_different_errors(self, cli: CommandLine, at_url: list[str]) -> None:
        wrong = cli.run("tasks", "list", *at_url, "--token", "fedcba9876543210")
        none = cli.run("tasks", "list", *at_url, TASKMILL_API_OPERATOR_TOKEN="")

        assert (wrong.returncode, "not the operator's token" in wrong.stderr) == (1, True)
        assert (none.returncode, "A list needs to know whose" in none.stderr) == (1, True)
