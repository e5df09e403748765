"""The examples used as their page says: `taskmill call` and `taskmill run`, real workers, real input, real deaths."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest

from taskmill.testing import CallRecord, ClientKind
from taskmill.testing.clients import client_of
from tests.support.command_line import CommandLine, Screen
from tests.support.holding_server import HoldingServer, Reply
from tests.support.page_site import DOCS, PageSite
from tests.support.processes import lives
from tests.support.waiting import WAIT_SECONDS, eventually

EXAMPLES = Path(__file__).parents[2] / "examples"
PAGES = ["quickstart", "tools", "questions", "steps", "failures", "isolation"]
WORKER = "taskmill.cli.main worker"

pytestmark = pytest.mark.slow


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    """A folder of its own; a dead worker's task is given to the next one after three seconds."""
    with CommandLine(tmp_path, {"TASKMILL_LEASE": "3"}) as command_line:
        yield command_line


def call(cli: CommandLine, example: str, *words: str) -> Popen[str]:
    """`taskmill call` of an example, begun."""
    command = cli.command("call", str(EXAMPLES / example), *words)
    return Popen(command, env=cli.environment, cwd=cli.folder, stdout=PIPE, stderr=PIPE, text=True)


def printed(process: Popen[str]) -> str:
    """What the command prints, once it has ended well."""
    out, err = process.communicate(timeout=WAIT_SECONDS)
    assert process.returncode == 0, err
    return out


class TestFetchPages:
    def test_a_killed_worker_fetches_no_page_twice(self, cli: CommandLine) -> None:
        with PageSite(PAGES, rules="User-agent: *\nDisallow: /failures.html\n") as site:
            site.hold_after(3)
            process = call(cli, "fetch_pages.py", "fetch_pages", f"url={site.url}", "folder=pages")
            held = site.until_held()
            cli.kill(WORKER)
            site.release()
            out = printed(process)
        asked = Counter(site.requests)
        assert asked.pop(held) == 2  # it was on its way when the worker died
        assert set(asked.values()) == {1}
        assert "/failures.html" not in asked
        assert "not fetched" in out
        stored = {path.name: path.read_text() for path in (cli.folder / "pages").iterdir()}
        assert stored["steps.html"] == site.pages["/steps.html"]
        assert not [name for name in stored if name.endswith(".part")]

    def test_a_site_that_is_down_is_named_in_the_error(self, cli: CommandLine) -> None:
        with PageSite(PAGES) as site:
            pass
        done = cli.run("call", str(EXAMPLES / "fetch_pages.py"), "fetch_pages", f"url={site.url}", "folder=pages")
        assert done.returncode == 1
        assert f"Cannot reach {site.url}" in done.stderr


class TestReviewPages:
    async def test_no_answer_that_a_killed_worker_had_is_paid_for_again_and_the_next_call_goes_on(
        self, cli: CommandLine
    ) -> None:
        model = [sys.executable, str(EXAMPLES / "models/scripted.py"), "0.05", "0"]
        with Popen(model, stdout=PIPE, text=True, env=cli.environment) as process, closing(process.stdout) as printed_:
            try:
                exports = [next(printed_).split()[1:] for _ in range(2)]
                variables = dict(one.split("=", 1) for line in exports for one in line)
                await self.review_all(cli, variables, printed_)
            finally:
                process.kill()

    async def review_all(self, cli: CommandLine, variables: dict[str, str], answers: Iterator[str]) -> None:
        for number in range(10):
            cli.write(f"page-{number}.md", "word " * number)
        given: list[str] = []
        with cli.started("run", str(EXAMPLES / "review_pages.py"), "--port", "0", **variables) as running:
            async with client_of(ClientKind.HELD, running.url()) as client:
                calling = asyncio.create_task(client.call("review", folder=str(cli.folder)))
                while len(given) < 5:
                    given.append(await asyncio.to_thread(next, answers))
                cli.kill(WORKER)
                first = reviewed(await calling)
                second = reviewed(await client.call("review", folder=str(cli.folder)))
                cli.write("page-3.md", "changed")
                third = reviewed(await client.call("review", folder=str(cli.folder)))
        assert (len(first["pages"]), first["left"], first["answers"]) == (8, 2, 10)
        assert (second["pages"], second["left"], second["answers"]) == (["page-8.md", "page-9.md"], 0, 4)
        assert (third["pages"], third["text"]) == (["page-3.md"], "page-3.md: 1 words")
        while len(given) < 17 or not given[-1].endswith("the end\n"):
            given.append(await asyncio.to_thread(next, answers))
        gone = [line for line in given if "is gone" in line]
        ends = [number for number, line in enumerate(given) if line.endswith("the end\n")]
        asked = Counter(line.partition(":")[0] for line in given[: ends[0] + 1] if line not in gone)
        repeated = [answer for answer, times in asked.items() if times > 1]
        # The worker may have died with an answer on its way to it: what it had is not asked for again.
        assert len(asked) == 10, given
        assert len(repeated) + len(gone) <= 1, given
        assert set(repeated) <= {"answer 5", "answer 6"}, given


def reviewed(record: CallRecord) -> dict[str, Any]:
    assert record.result is not None
    return record.result.structured_content or {}


class TestCheckCsv:
    COLUMNS = 'columns={"id": "filled", "price": "number", "day": "date", "mail": "email"}'

    def write(self, cli: CommandLine, rows: int) -> list[str]:
        """Orders, every hundredth with a bad price; the problems that must be found."""
        lines = [f"{n},{'free' if n % 100 == 0 else n / 8},2026-01-{n % 31 + 1:02},a@b.org" for n in range(1, rows + 1)]
        cli.write("orders.csv", "id,price,day,mail\n" + "\n".join(lines) + "\n")
        return ["line,column,value,problem", *(f"{n + 1},price,free,no number" for n in range(100, rows + 1, 100))]

    def test_a_killed_worker_leaves_each_problem_once_in_the_report(self, cli: CommandLine) -> None:
        expected = self.write(cli, 300_000)
        report = cli.folder / "orders.csv.problems.csv"
        process = call(cli, "check_csv.py", "check_csv", "path=orders.csv", self.COLUMNS)
        eventually(lambda: report.exists() and report.stat().st_size > 1000)
        cli.kill(WORKER)
        assert report.stat().st_size < sum(len(line) + 1 for line in expected), "it was killed too late"
        assert "300,000 rows, 3,000 with problems" in printed(process)
        assert report.read_text().splitlines() == expected

    def test_odd_files_are_read_and_wrong_arguments_are_named(self, cli: CommandLine) -> None:
        odd = 'id;price;day;mail\r\n;1,5;2026-02-30;a at b\r\n"two\r\nlines";1;2026-01-01;\xfc@b.org\r\n1;2\r\n'
        (cli.folder / "orders.csv").write_bytes(b"\xef\xbb\xbf" + odd.encode("latin-1"))
        words = ["call", str(EXAMPLES / "check_csv.py"), "check_csv", "path=orders.csv"]
        assert cli.run(*words, self.COLUMNS).returncode == 0
        assert (cli.folder / "orders.csv.problems.csv").read_text().splitlines()[1:] == [
            "2,id,,empty",
            '2,price,"1,5",no number',
            "2,day,2026-02-30,no date like 2026-01-31",
            "2,mail,a at b,no email",
            "4,mail,\ufffd@b.org,not UTF-8",
            '5,,,"2 fields, the header has 4"',
        ]
        done = cli.run(*words, 'columns={"cost": "number"}')
        assert "orders.csv has no column cost. Its columns: id, price, day, mail." in done.stderr


class TestRunTests:
    TESTS = """
import os, pathlib, subprocess, sys

def test_adds(): assert 1 + 1 == 2
def test_fails(): assert 1 + 1 == 3
def test_waits():
    if os.path.exists("wait"):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        pathlib.Path("pids").write_text(f"{os.getpid()} {child.pid}")
        child.wait()
"""

    @pytest.fixture
    def project(self, cli: CommandLine) -> CommandLine:
        cli.write("project/test_some.py", self.TESTS)
        return cli

    def waiting(self, project: CommandLine) -> list[int]:
        """The processes of a test run that waits: pytest, and what a test has started."""
        path = project.folder / "project" / "pids"
        words = eventually(lambda: path.read_text().split() if path.exists() else [], lambda words: len(words) == 2)
        return [int(word) for word in words]

    def test_says_what_failed(self, project: CommandLine) -> None:
        out = printed(call(project, "run_tests.py", "run_tests", "folder=project"))
        assert out.startswith("some failed in ")
        assert "FAILED test_some.py::test_fails" in out
        chosen = 'select=["test_some.py::test_adds"]'
        assert printed(call(project, "run_tests.py", "run_tests", "folder=project", chosen)).startswith(
            "all passed in "
        )

    def test_a_cancel_ends_every_process_of_the_run(self, project: CommandLine) -> None:
        project.write("project/wait", "")
        words = ["call", str(EXAMPLES / "run_tests.py"), "run_tests", "folder=project"]
        with closing(Screen(project, words)) as screen:
            pids = self.waiting(project)
            screen.wait_for("collected 3 items")
            screen.type("\x03")
            screen.wait_for("[c/d]")
            screen.type("c\n")
            screen.wait_for("The task was cancelled.")
            assert screen.end() != 0
        eventually(lambda: [pid for pid in pids if lives(pid)], lambda left: left == [])

    def test_a_killed_worker_leaves_no_process_of_the_run(self, project: CommandLine) -> None:
        project.write("project/wait", "")
        process = call(project, "run_tests.py", "run_tests", "folder=project")
        pids = self.waiting(project)
        (project.folder / "project" / "wait").unlink()
        project.kill(WORKER)
        eventually(lambda: [pid for pid in pids if lives(pid)], lambda left: left == [])
        assert printed(process).startswith("some failed in ")


class Model(HoldingServer):
    """Answers as a model would that follows a script: list, read, read, and say what was read."""

    SCRIPT = (("list_files", {"pattern": "*.md"}), ("read_file", {"path": "steps.md"}), ("read_file", {"path": "../x"}))

    def reply(self, path: str, body: str) -> Reply:
        read = [message["content"] for message in json.loads(body)["messages"] if message["role"] == "tool"]
        message: dict[str, object] = {"role": "assistant", "content": None}
        if len(read) < len(self.SCRIPT):
            name, arguments = self.SCRIPT[len(read)]
            made = {"name": name, "arguments": json.dumps(arguments)}
            message["tool_calls"] = [{"id": f"c{len(read)}", "type": "function", "function": made}]
        else:
            message["content"] = f"{len(read[0].split())} pages; {read[1].splitlines()[0]}; {read[2]}"
        answer = {"choices": [{"message": message}], "usage": {"total_tokens": 100}}
        is_there = path == "/v1/chat/completions"
        return (200, "application/json", json.dumps(answer)) if is_there else (404, "text/plain", "no such place")

    def counted(self, path: str, body: str) -> str:
        return f"{len(json.loads(body)['messages'])} messages"


class TestModelLoop:
    WORDS = ("ask_folder", "question=What are steps?", f"folder={DOCS}")

    def test_a_killed_worker_pays_for_no_turn_twice(self, cli: CommandLine) -> None:
        with Model() as model:
            cli.environment["MODEL_URL"] = f"{model.url}v1"
            model.hold_after(2)
            process = call(cli, "model_loop.py", *self.WORDS)
            held = model.until_held()
            cli.kill(WORKER)
            model.release()
            out = printed(process)
        pages = len(list(DOCS.glob("*.md")))
        assert out == f"{pages} pages; # Steps that run once; Error: that is outside of the folder.\n"
        asked = Counter(model.requests)
        assert asked.pop(held) == 2  # on its way when the worker died
        assert list(asked.values()) == [1, 1, 1]

    def test_what_is_missing_is_named(self, cli: CommandLine) -> None:
        cli.environment.pop("MODEL_URL", None)
        words = ["call", str(EXAMPLES / "model_loop.py"), *self.WORDS]
        assert "No model is set. Start the server with MODEL_URL" in cli.run(*words).stderr
        with Model() as model:
            done = cli.run(*words, MODEL_URL=f"{model.url}v2")
            assert "Check MODEL_URL, MODEL_NAME and MODEL_KEY. HTTP status 404: no such place" in done.stderr
        assert f"No model answers at {model.url}chat/completions" in cli.run(*words, MODEL_URL=model.url).stderr
