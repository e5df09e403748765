"""The example servers do what their README says, on trees with everything a real one may hold.

Here: their functions on real files, and that each module loads and offers its tools. Not here: the command line, the
protocol and the workers, which have suites of their own.
"""

import importlib.util
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from mcp.server.mcpserver.exceptions import ToolError

from taskmill.engine.context import TaskContext
from taskmill.engine.outcome import Returned
from taskmill.engine.record import Progress
from taskmill.server.handlers.follow_up_tools import FOLLOW_UP_TOOLS

EXAMPLES = Path(__file__).parents[2] / "examples"
NOBODY = 65534
APPROVAL = {"action": "accept", "content": {"confirm": True}}


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def code_survey() -> Any:
    return load("code_survey")


@pytest.fixture(scope="module")
def near_duplicates() -> Any:
    return load("near_duplicates")


@pytest.fixture(scope="module")
def approve_cleanup() -> Any:
    return load("approve_cleanup")


@dataclass
class Run:
    """One attempt at a task, as a worker makes it: what the tool reported, asked and returned."""

    cancelled: bool = False
    answer: dict[str, Any] | None = None
    reports: list[Progress] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    text: str = ""
    figures: dict[str, Any] = field(default_factory=dict)
    failed: bool = False

    def listen(self, progress: Progress) -> None:
        self.reports.append(progress)

    async def ask(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        assert self.answer is not None, f"unexpected question: {requests}"
        self.questions += [request["params"]["message"] for request in requests]
        return [self.answer for _ in requests]

    async def of(self, module: Any, tool: str, **arguments: object) -> "Run":
        task = TaskContext(task_id="t", attempt=1, fence=1, principal="p", report=self.listen, ask=self.ask)
        if self.cancelled:
            task.cancel()
        payload = {"arguments": arguments, "client": {"capabilities": {"elicitation": {}}}}
        async with module.mcp.toolbox() as toolbox:
            outcome = await toolbox.run(tool, payload, task)
        assert isinstance(outcome, Returned), outcome
        self.failed = outcome.is_error
        self.text = outcome.value["content"][0]["text"]
        self.figures = outcome.value.get("structuredContent", {})
        return self


@contextmanager
def as_nobody() -> Iterator[None]:
    """Permissions do not bind root, as whom containers run tests."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def surveyed(code_survey: Any, root: Path, skip: frozenset[str] = frozenset()) -> Any:
    entries, set_aside = code_survey.list_tree(root, skip)
    sizes = Counter(entry.size for entry in entries)
    measured = [code_survey.measure(entry, sizes[entry.size] > 1) for entry in entries]
    return code_survey.summarise(str(root), measured, set_aside, 1.0)


class TestEveryExample:
    @pytest.mark.parametrize(
        ("name", "tools"),
        [
            ("code_survey", {"survey", "languages"}),
            ("near_duplicates", {"near_duplicates"}),
            ("approve_cleanup", {"approve_cleanup"}),
            ("fetch_pages", {"fetch_pages"}),
            ("check_csv", {"check_csv"}),
            ("run_tests", {"run_tests"}),
            ("model_loop", {"ask_folder"}),
            ("review_pages", {"review"}),
        ],
    )
    async def test_loads_and_offers_its_tools_with_a_description(self, name: str, tools: set[str]) -> None:
        offered = await load(name).mcp.list_tools()
        assert tools == {tool.name for tool in offered} - set(FOLLOW_UP_TOOLS)
        assert all(tool.description for tool in offered)

    @pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.py")))
    def test_is_in_the_readme_with_the_command_that_runs_it(self, name: str) -> None:
        assert f"taskmill call examples/{name}.py " in (EXAMPLES / "README.md").read_text()

    @pytest.mark.parametrize("name", ["code_survey", "near_duplicates"])
    def test_does_not_print_the_warnings_of_the_code_it_parses(self, name: str) -> None:
        source = r"'\d'"
        program = f"import ast, runpy, sys; ast.parse({source!r}, runpy.run_path(sys.argv[1])['SOURCE_NAME'])"
        loud = [part for kind in ("Syntax", "Deprecation") for part in ("-W", f"default::{kind}Warning")]
        command = [sys.executable, *loud, "-c", program, str(EXAMPLES / f"{name}.py")]
        printed = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True).stderr
        assert "invalid escape" not in printed


class TestCodeSurvey:
    def test_tells_code_from_comments_docstrings_and_blank_lines(self, code_survey: Any, tmp_path: Path) -> None:
        write(
            tmp_path,
            {
                "a.py": '"""Module.\n\nMore.\n"""\n# note\nx = """\n# text\n"""\n\n\ndef f():\n    "Doc."\n',
                "b.c": "/* one */\nint x; /* tail */\n/* two\n\n   lines */\n// three\n",
                "c.html": "<!-- a\nb --><p>\n<p>\n",
            },
        )
        rows = {
            row.name: (row.files, row.code, row.comment, row.blank) for row in surveyed(code_survey, tmp_path).languages
        }
        assert rows == {"Python": (1, 4, 5, 3), "C and C++": (1, 1, 4, 1), "HTML and XML": (1, 1, 2, 0)}

    def test_totals_add_up_over_all_languages(self, code_survey: Any, tmp_path: Path) -> None:
        write(
            tmp_path, {"a.py": "x = 1\n", "deep/er/b.js": "// c\nlet x\n", "notes": "line\n", "image.png": b"\x89PNG\0"}
        )
        survey = surveyed(code_survey, tmp_path)
        assert (survey.total.files, survey.total.code, survey.total.comment) == (4, 3, 1)
        assert survey.total.bytes == sum(row.bytes for row in survey.languages) == 27
        assert survey.set_aside == {"not text": 1}

    @pytest.mark.parametrize(
        "source",
        [
            b"def f(:\n",
            b"x = 1\n# -*- coding: no-such -*-\n"[6:],
            b"(" * 5000,
            b"\xff\xfe broken",
            b"-" * 200_000 + b"1",
        ],
        ids=["grammar", "coding", "nesting", "bytes", "recursion"],
    )
    def test_counts_a_file_that_cannot_be_parsed_and_goes_on(
        self, code_survey: Any, tmp_path: Path, source: bytes
    ) -> None:
        write(tmp_path, {"bad.py": source, "good.py": "x = 1\n"})
        survey = surveyed(code_survey, tmp_path)
        assert (survey.syntax_errors, survey.cannot_parse) == (1, ["bad.py"])
        assert list(survey.slowest_parse_ms) == ["good.py"]

    def test_follows_no_links_and_so_ends_on_a_loop(self, code_survey: Any, tmp_path: Path) -> None:
        write(tmp_path, {"in/a.py": "x = 1\n"})
        (tmp_path / "in" / "loop").symlink_to(tmp_path)
        (tmp_path / "in" / "self").symlink_to("self")
        (tmp_path / "b.py").symlink_to("in/a.py")
        survey = surveyed(code_survey, tmp_path)
        assert (survey.total.files, survey.set_aside) == (1, {"link": 3})

    def test_never_opens_a_pipe(self, code_survey: Any, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.py")
        assert surveyed(code_survey, tmp_path).total.files == 0

    def test_finds_copies_that_differ_only_in_comments_and_indentation(self, code_survey: Any, tmp_path: Path) -> None:
        write(
            tmp_path,
            {
                "a.js": "let x = 1\n",
                "b.js": "// why\n\n  let x = 1\n",
                "c.bin": b"\0same",
                "d.bin": b"\0same",
                "empty1": "",
                "empty2": "",
                "other.js": "let y = 1\n",
            },
        )
        found = [(group.identical, group.count, group.paths) for group in surveyed(code_survey, tmp_path).copies]
        assert found == [(False, 2, ["a.js", "b.js"]), (True, 2, ["c.bin", "d.bin"])]

    def test_hashes_a_very_large_file_only_when_another_has_its_size(self, code_survey: Any, tmp_path: Path) -> None:
        for name, size in (("a.py", 1), ("b.py", 1), ("c.py", 2)):
            with (tmp_path / name).open("wb") as file:
                file.truncate(code_survey.READ_LIMIT + size)
        survey = surveyed(code_survey, tmp_path)
        assert survey.set_aside == {"too large to read": 3}
        assert [group.paths for group in survey.copies] == [["a.py", "b.py"]]
        assert survey.slowest_parse_ms == {}

    def test_counts_what_vanishes_between_listing_and_reading(self, code_survey: Any, tmp_path: Path) -> None:
        write(tmp_path, {"a.py": "x = 1\n", "b.py": "x = 2\n"})
        entries, set_aside = code_survey.list_tree(tmp_path, frozenset())
        (tmp_path / "a.py").unlink()
        survey = code_survey.summarise("r", [code_survey.measure(entry, False) for entry in entries], set_aside, 1.0)
        assert (survey.set_aside, survey.total.code) == ({"unreadable": 1}, 1)

    def test_counts_a_folder_that_may_not_be_read(self, code_survey: Any, tmp_path: Path) -> None:
        write(tmp_path, {"closed/a.py": "x = 1\n", "b.py": "x = 2\n"})
        (tmp_path / "closed").chmod(0)
        for folder in (tmp_path, *tmp_path.parents):
            if folder.stat().st_uid == os.geteuid() and len(folder.parts) > 2:
                folder.chmod(0o755)
        try:
            with as_nobody():
                entries, set_aside = code_survey.list_tree(tmp_path, frozenset())
        finally:
            (tmp_path / "closed").chmod(0o755)
        assert ([entry.shown for entry in entries], set_aside) == (["b.py"], Counter(unreadable=1))

    @pytest.mark.parametrize(
        ("path", "reason"), [("absent", "No such file"), ("file", "Not a directory"), ("nul\0", "null byte")]
    )
    def test_says_in_a_sentence_why_a_path_cannot_be_surveyed(
        self, code_survey: Any, tmp_path: Path, path: str, reason: str
    ) -> None:
        write(tmp_path, {"file": "text"})
        with pytest.raises(ToolError, match=rf"Cannot survey .*: .*{reason}.*\. Name a folder that can be read\."):
            code_survey.list_tree(tmp_path / path, frozenset())

    def test_says_that_it_lacks_permission_for_the_root(self, code_survey: Any, tmp_path: Path) -> None:
        root = tmp_path / "closed"
        root.mkdir(mode=0)
        with as_nobody(), pytest.raises(ToolError, match="Permission denied"):
            code_survey.list_tree(root, frozenset())

    def test_leaves_out_caches_environments_and_what_it_is_told_to(self, code_survey: Any, tmp_path: Path) -> None:
        names = ["keep/a.py", ".git/a.py", "env/lib/a.py", "env/pyvenv.cfg", "__pycache__/a.pyc", "skipped/in/a.py"]
        write(tmp_path, dict.fromkeys(names, "x = 1\n"))
        entries, _ = code_survey.list_tree(tmp_path, code_survey.NEVER_ENTERED | {"skipped"})
        assert [entry.shown for entry in entries] == ["keep/a.py"]

    def test_surveys_an_environment_when_it_is_the_root(self, code_survey: Any, tmp_path: Path) -> None:
        write(tmp_path, {"pyvenv.cfg": "home = x\n", "lib/a.py": "x = 1\n"})
        assert surveyed(code_survey, tmp_path).total.files == 2

    def test_shows_any_name_as_text(self, code_survey: Any, tmp_path: Path) -> None:
        name = os.fsdecode(b"caf\xe9\x1b[31m.py")
        write(tmp_path, {name: "x = 1\n"})
        survey = surveyed(code_survey, tmp_path)
        assert list(survey.largest_bytes) == ["caf\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}[31m.py"]
        assert "[31m.py" in code_survey.render(survey).encode().decode()
        assert survey.model_dump_json()

    def test_stays_short_however_many_files_there_are(self, code_survey: Any, tmp_path: Path) -> None:
        for number in range(40):
            write(
                tmp_path,
                {f"{number}/bad.py": "(", f"{number}/a.py": f"x{number} = 1\n", f"{number}/b.py": f"x{number} = 1\n"},
            )
        survey = surveyed(code_survey, tmp_path)
        lists = (survey.largest_bytes, survey.slowest_parse_ms, survey.copies, survey.cannot_parse)
        assert [len(rows) for rows in lists] == [10, 10, 10, 10]
        assert survey.syntax_errors == 40
        assert len(code_survey.render(survey).splitlines()) < 60

    def test_reads_well_for_an_empty_folder(self, code_survey: Any, tmp_path: Path) -> None:
        text = code_survey.render(surveyed(code_survey, tmp_path))
        assert "0 files" in text
        assert "no copies" in text
        assert "set aside: nothing" in text

    async def test_reports_every_file_and_returns_text_and_figures(self, code_survey: Any, tmp_path: Path) -> None:
        write(tmp_path, {"a.py": "x = 1\n", "b/c.py": "y = 1\n"})
        run = await Run().of(code_survey, "survey", path=str(tmp_path))
        assert run.reports == [Progress(1, 2, "a.py"), Progress(2, 2, "b/c.py")]
        survey = code_survey.Survey.model_validate(run.figures)
        assert survey.total.files == 2
        assert run.text == code_survey.render(survey)

    async def test_fails_as_a_tool_when_the_path_is_wrong(self, code_survey: Any, tmp_path: Path) -> None:
        run = await Run().of(code_survey, "survey", path=str(tmp_path / "absent"))
        assert run.failed
        assert run.text.endswith("absent: No such file or directory. Name a folder that can be read.")


def function(name: str, *lines: str) -> str:
    return "\n    ".join([f"def {name}(items, limit):", *lines]) + "\n\n\n"


BODY = (
    "total = 0",
    "for item in items:",
    "    if item.size > limit:",
    '        log("too large", item)',
    "        continue",
    "    total += item.size",
    "    item.mark(total)",
    "return total",
)
RENAMED = tuple(line.replace("item", "thing").replace("total", "acc").replace("too large", "skipped") for line in BODY)


def no_report(percent: float, message: str) -> None:
    """Whoever searches here does not wait."""


class TestNearDuplicates:
    def found(self, near_duplicates: Any, root: Path, threshold: float = 0.75, effort: int = 4) -> Any:
        return near_duplicates.search(root, threshold, 5, effort, no_report)

    def test_takes_functions_for_equal_that_differ_in_local_names_constants_and_comments(
        self, near_duplicates: Any, tmp_path: Path
    ) -> None:
        other = function("g", '"""Doc."""', "# why", *RENAMED).replace("items, limit", "things: list[int], limit: int")
        write(tmp_path, {"a.py": function("f", *BODY), "b.py": other})
        [family] = self.found(near_duplicates, tmp_path).families
        assert (family.count, family.least_similarity) == (2, 1.0)
        assert [(one.where, one.name) for one in family.members] == [("a.py:1", "f"), ("b.py:1", "g")]

    def test_takes_functions_for_different_that_call_something_else(self, near_duplicates: Any, tmp_path: Path) -> None:
        tokens = [
            list(near_duplicates.normalise(near_duplicates.ast.parse(function("f", "return " + call)).body[0]))
            for call in ("len(items)", "sum(items)", "len(limit)")
        ]
        assert tokens[0] != tokens[1]
        assert tokens[0] == tokens[2]

    def test_finds_a_function_with_a_line_more(self, near_duplicates: Any, tmp_path: Path) -> None:
        write(tmp_path, {"a.py": function("f", *BODY) + function("g", *BODY[:-1], "limit = 1", BODY[-1])})
        [family] = self.found(near_duplicates, tmp_path).families
        assert 0.75 <= family.least_similarity < 1
        assert self.found(near_duplicates, tmp_path, threshold=1.0).families == []

    def test_finds_every_pair_that_comparing_all_with_all_finds(self, near_duplicates: Any, tmp_path: Path) -> None:
        lines = [f"call_{number}(items, {number})" for number in range(30)]
        variants = [
            function(f"f{at}_{extra}", *lines[:at], *(f"use_{at}_{n}(items)" for n in range(extra)), *lines[at:])
            for at in (1, 10, 20, 29)
            for extra in (0, 1, 3, 6, 12)
        ]
        write(tmp_path, {"a.py": "".join(variants)})
        functions, _, _ = near_duplicates.parse_tree(tmp_path, 5, no_report)
        sets = list(dict.fromkeys(one.shingles for one in functions))
        pairs = near_duplicates.candidates(sets, 60, no_report)
        close = {
            (first, second)
            for first, second in combinations(range(len(sets)), 2)
            if near_duplicates.jaccard(sets[first], sets[second]) >= 0.8
        }
        assert len(close) > 20
        assert len(close) < len(sets) * (len(sets) - 1) // 2
        assert close <= pairs

    def test_does_not_pair_a_function_with_the_one_around_it(self, near_duplicates: Any, tmp_path: Path) -> None:
        inner = function("inner", *BODY, *BODY).strip().replace("\n", "\n    ")
        write(tmp_path, {"a.py": f"def outer(items, limit):\n    {inner}\n    return inner\n"})
        findings = self.found(near_duplicates, tmp_path)
        assert (findings.functions, findings.families) == (2, [])

    def test_leaves_out_functions_that_are_short_but_for_a_long_text(
        self, near_duplicates: Any, tmp_path: Path
    ) -> None:
        text = '"""' + "text\n" * 20 + '"""'
        write(tmp_path, {"a.py": function("f", f"return {text}") + function("g", text, "return items")})
        assert self.found(near_duplicates, tmp_path).functions == 0

    def test_counts_files_it_cannot_parse_and_goes_on(self, near_duplicates: Any, tmp_path: Path) -> None:
        write(tmp_path, {"a.py": function("f", *BODY), "b.py": "def f(:\n", "c.py": b"\0"})
        write(tmp_path, {"d.py": "#" * (near_duplicates.FILE_LIMIT + 1), "site-packages/e.py": "("})
        os.mkfifo(tmp_path / "pipe.py")
        (tmp_path / "link.py").symlink_to("a.py")
        findings = self.found(near_duplicates, tmp_path)
        assert (findings.files, findings.not_parsed, findings.functions) == (4, 3, 1)

    def test_finds_nothing_in_an_empty_folder(self, near_duplicates: Any, tmp_path: Path) -> None:
        findings = self.found(near_duplicates, tmp_path)
        assert (findings.files, findings.functions, findings.families) == (0, 0, [])
        assert "0 functions in 0 files" in near_duplicates.render(findings)

    @pytest.mark.parametrize("path", ["absent", "file"])
    def test_says_in_a_sentence_why_a_path_cannot_be_searched(
        self, near_duplicates: Any, tmp_path: Path, path: str
    ) -> None:
        write(tmp_path, {"file": ""})
        with pytest.raises(ToolError, match=r"Cannot search .*\. Name a folder that can be read\."):
            self.found(near_duplicates, tmp_path / path)

    async def test_reports_a_percentage_that_only_rises(self, near_duplicates: Any, tmp_path: Path) -> None:
        write(tmp_path, {"a.py": function("f", *BODY) + function("g", *BODY[1:]), "b.py": function("f", *RENAMED)})
        run = await Run().of(near_duplicates, "near_duplicates", path=str(tmp_path), effort=1)
        done = [report.done for report in run.reports if report.done is not None]
        assert done == sorted(done)
        assert 0 < done[0] < done[-1] <= 100
        assert run.text == near_duplicates.render(near_duplicates.Findings.model_validate(run.figures))

    async def test_stops_when_it_is_cancelled(self, near_duplicates: Any, tmp_path: Path) -> None:
        write(tmp_path, {"a.py": function("f", *BODY)})
        run = await Run(cancelled=True).of(near_duplicates, "near_duplicates", path=str(tmp_path))
        assert run.failed
        assert run.reports == []


class TestApproveCleanup:
    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        root = tmp_path / "tree"
        write(root, dict.fromkeys(["a.py", "a.py.orig", "in/__pycache__/a.pyc", "in/b.txt", ".git/x.orig"], "12345"))
        (root / "hollow" / "deep").mkdir(parents=True)
        (root / ".git" / "refs").mkdir()
        return root

    async def run(self, approve_cleanup: Any, root: Path, answer: dict[str, Any], dry_run: bool = False) -> Run:
        return await Run(answer=answer).of(approve_cleanup, "approve_cleanup", path=str(root), dry_run=dry_run)

    def test_finds_leftover_files_and_the_folders_that_hold_nothing_else(
        self, approve_cleanup: Any, tree: Path
    ) -> None:
        found = approve_cleanup.find_leftovers(tree)
        assert found.files == ["a.py.orig", "in/__pycache__/a.pyc"]
        assert sorted(found.folders) == ["hollow", "hollow/deep", "in/__pycache__"]
        assert found.folders.index("hollow/deep") < found.folders.index("hollow")
        assert found.bytes == 10

    def test_leaves_links_and_the_folders_that_hold_them(self, approve_cleanup: Any, tree: Path) -> None:
        (tree / "hollow" / "to").symlink_to(tree)
        (tree / "link.orig").symlink_to("a.py")
        found = approve_cleanup.find_leftovers(tree)
        assert "link.orig" not in found.files
        assert "hollow" not in found.folders

    def test_never_offers_the_root_itself(self, approve_cleanup: Any, tmp_path: Path) -> None:
        assert approve_cleanup.find_leftovers(tmp_path) == ([], [], 0)

    async def test_asks_nothing_and_deletes_nothing_in_a_dry_run(self, approve_cleanup: Any, tree: Path) -> None:
        before = sorted(tree.rglob("*"))
        run = await Run(answer=APPROVAL).of(approve_cleanup, "approve_cleanup", path=str(tree))
        assert (run.questions, sorted(tree.rglob("*"))) == ([], before)
        assert "2 files and 3 folders, 10 bytes" in run.text

    async def test_deletes_what_was_approved_and_nothing_else(self, approve_cleanup: Any, tree: Path) -> None:
        run = await self.run(approve_cleanup, tree, APPROVAL)
        assert run.questions == [f"Delete 2 files and 3 folders, 10 bytes below {tree}?"]
        left = sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))
        assert left == [".git", ".git/refs", ".git/x.orig", "a.py", "in", "in/b.txt"]
        assert (run.figures["deleted"], run.figures["failed"]) == (5, [])
        assert [report.done for report in run.reports] == [1, 2, 3, 4, 5]

    @pytest.mark.parametrize(
        "answer",
        [{"action": "decline"}, {"action": "cancel"}, {"action": "accept", "content": {"confirm": False}}],
        ids=["declined", "cancelled", "not confirmed"],
    )
    async def test_deletes_nothing_that_was_not_approved(
        self, approve_cleanup: Any, tree: Path, answer: dict[str, Any]
    ) -> None:
        before = sorted(tree.rglob("*"))
        run = await self.run(approve_cleanup, tree, answer)
        assert sorted(tree.rglob("*")) == before
        assert (run.figures["answer"], run.figures["deleted"], run.failed) == ("not approved", 0, False)

    async def test_asks_nothing_when_nothing_was_found(self, approve_cleanup: Any, tmp_path: Path) -> None:
        run = await self.run(approve_cleanup, tmp_path, APPROVAL)
        assert (run.questions, run.failed) == ([], False)

    def test_counts_what_is_already_gone_as_deleted(self, approve_cleanup: Any, tree: Path) -> None:
        assert approve_cleanup.delete(tree, "never/was.orig")

    def test_keeps_a_folder_that_has_been_filled_since_the_question(self, approve_cleanup: Any, tree: Path) -> None:
        write(tree, {"hollow/deep/new.txt": "new"})
        assert not approve_cleanup.delete(tree, "hollow/deep")
        assert (tree / "hollow/deep/new.txt").exists()

    def test_deletes_nothing_outside_through_a_folder_that_became_a_link(
        self, approve_cleanup: Any, tree: Path
    ) -> None:
        outside = write(tree.parent / "outside", {"a.pyc": "keep"})
        (tree / "swapped").symlink_to(outside)
        assert not approve_cleanup.delete(tree, "swapped/a.pyc")
        assert (outside / "a.pyc").exists()

    async def test_says_in_a_sentence_why_a_path_cannot_be_looked_through(
        self, approve_cleanup: Any, tree: Path
    ) -> None:
        run = await self.run(approve_cleanup, tree / "a.py", APPROVAL)
        assert run.failed
        assert run.text.endswith("a.py: Not a directory. Name a folder that can be read.")
