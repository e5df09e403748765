"""The lab itself: the scripted model follows what it should, what passes is passed on, and each judge can fail."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.launchers import INSTALL_NAMES, LAUNCHERS, Setting
from tests.hosts.model_apis import ModelLog
from tests.hosts.recording_proxy import RecordingProxy
from tests.hosts.run import Run, Transport
from tests.hosts.scenarios import SCENARIOS, Judgement, Verdict
from tests.hosts.scripted_model import DONE, Call, Item, Say, next_turn, prompt_of, steps_in
from tests.hosts.table import Row, markdown_of

CANCEL = b'{"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 2}}'
SURVEY = [{"tool": "survey", "args": {"seconds": 5}, "retry": 1}]
TOOLS = ["mcp__tests__survey", "mcp__tests__task_wait", "mcp__tests__task_answer"]


def conversation(*results: str, steps: list[dict[str, Any]] = SURVEY) -> list[Item]:
    """A prompt with steps, and calls that were answered so."""
    items = [Item("user", prompt_of(steps))]
    for at, text in enumerate(results):
        items += [Item("call", id=f"c{at}", name="mcp__tests__survey"), Item("result", text, id=f"c{at}")]
    return items


async def test_what_a_host_sends_before_it_leaves_reaches_the_server_although_the_host_does_not_wait() -> None:
    """a host that is interrupted sends its cancel, closes the connection in the same moment, and ends."""
    received = asyncio.get_running_loop().create_future()

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        received.set_result((head.split(b" ")[0], await reader.readexactly(len(CANCEL))))
        await reader.read()  # never an answer: until the other side leaves
        writer.close()

    sent = [{"type": "http.request", "body": CANCEL}, {"type": "http.disconnect"}, {"type": "http.disconnect"}]
    scope = {"type": "http", "method": "POST", "path": "/mcp", "query_string": b"", "headers": []}

    async def receive() -> dict[str, Any]:
        return sent.pop(0)

    async def send(_message: Any) -> None: ...

    async with await asyncio.start_server(keep, "127.0.0.1", 0) as server:
        proxy = RecordingProxy(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await proxy.app(scope, receive, send)
        assert await asyncio.wait_for(received, 30) == (b"POST", CANCEL)
    assert [record["what"] for record in proxy.records] == ["request", "client left"]


def run_that_ends_with(text: str, *, calls: int = 1) -> Run:
    run = Run("claude", "http", model=ModelLog([([], Say(text))]))
    run.records = [{"what": "request", "body": {"method": "tools/call"}}] * calls
    return run


class TestModel:
    def test_it_calls_the_first_tool_by_the_name_that_the_host_gave_it(self) -> None:
        assert next_turn(conversation(), TOOLS) == Call("mcp__tests__survey", {"seconds": 5})

    def test_it_follows_a_hand_off(self) -> None:
        words = 'survey is still running. Next step: call the tool task_wait with {"task_id": "4f"} and wait.'
        assert next_turn(conversation(words), TOOLS) == Call("mcp__tests__task_wait", {"task_id": "4f"})

    def test_it_follows_a_hand_off_that_the_host_gave_as_json(self) -> None:
        words = r'{"text": "Next step: call the tool task_wait with {\"task_id\": \"4f\"}"}'
        assert next_turn(conversation(words), TOOLS) == Call("mcp__tests__task_wait", {"task_id": "4f"})

    def test_it_answers_a_question(self) -> None:
        words = 'survey runs as task 4f and waits for an answer.\n- key "0": Go on?'
        answer = {"task_id": "4f", "key": "0", "answer": {"yes": True}}
        assert next_turn(conversation(words), TOOLS) == Call("mcp__tests__task_answer", answer)

    def test_it_tries_a_failed_call_again_as_often_as_the_step_says(self) -> None:
        again = Call("mcp__tests__survey", {"seconds": 5})
        assert next_turn(conversation("Error: Request timed out"), TOOLS) == again
        ended = next_turn(conversation("Error: Request timed out", "Error: again"), TOOLS)
        assert ended == Say(f"{DONE} Error: again")

    def test_it_ends_with_the_last_result(self) -> None:
        assert next_turn(conversation("35 jars"), TOOLS) == Say(f"{DONE} 35 jars")

    def test_a_host_without_the_tool_is_noticed(self) -> None:
        assert next_turn(conversation(), ["other"]) == Say("NO TOOL survey")

    def test_it_reads_steps_that_the_host_has_quoted(self) -> None:
        assert steps_in(prompt_of(SURVEY).replace('"', '\\"')) == SURVEY
        assert steps_in("hello") is None


RIGHT, LIMIT, WRONG = Verdict.RIGHT, Verdict.HOSTS_LIMIT, Verdict.WRONG


def sent(method: str, **params: Any) -> dict[str, Any]:
    return {"what": "request", "body": {"method": method, "params": params}}


class TestJudges:
    @pytest.mark.parametrize(
        ("scenario", "text", "state", "verdict"),
        [
            ("long call", "{'found': '35 jars'}", "", RIGHT),
            ("long call", "Request timed out", "", WRONG),
            ("long call", "{'found': '42 jars'}", "", WRONG),
            ("question", '{"action": "decline", "yes": null}', "", RIGHT),
            ("question", r"{\"action\": \"accept\"}", "", RIGHT),
            ("question", "still waits for an answer", "", WRONG),
            ("interrupt", "", "cancelled", RIGHT),
            ("interrupt", "", "", WRONG),
        ],
    )
    def test_it_tells_right_from_wrong(self, scenario: str, text: str, state: str, verdict: Verdict) -> None:
        assert SCENARIOS[scenario].judge(run_that_ends_with(text), 5, state).verdict is verdict

    @pytest.mark.parametrize(
        ("transport", "revision", "methods", "state", "verdict"),
        [
            ("http", "2025-06-18", [], "running", LIMIT),
            ("stdio", "2026-07-28", [], "running", LIMIT),
            ("http", "2025-06-18", [], "completed", WRONG),
            ("http", "2026-07-28", [], "running", WRONG),
            ("http", "2025-06-18", ["notifications/cancelled"], "running", WRONG),
            ("stdio", "2025-06-18", ["notifications/cancelled"], "running", WRONG),
            ("http", "2026-07-28", ["tasks/cancel"], "running", WRONG),
            ("http", "2025-06-18", ["tasks/cancel"], "running", WRONG),
        ],
    )
    def test_a_task_that_goes_on_is_the_hosts_limit_only_if_the_host_sent_no_cancel(
        self, transport: Transport, revision: str, methods: list[str], state: str, verdict: Verdict
    ) -> None:
        run = Run("gemini", transport)
        run.records = [sent("tools/call", name="wait_here"), *(sent(method) for method in methods)]
        run.records.append({"what": "answer", "body": {"result": {"protocolVersion": revision}}})
        assert SCENARIOS["interrupt"].judge(run, 5, state).verdict is verdict

    def test_a_host_whose_messages_were_not_seen_has_no_limit(self) -> None:
        assert SCENARIOS["interrupt"].judge(Run("gemini", "stdio"), 5, "running").verdict is WRONG

    def test_a_host_without_a_model_may_be_handed_off_in_words(self) -> None:
        words = r'{"text": "call the tool task_wait with {\"task_id\": \"4f\"}"}'
        judge = SCENARIOS["long call"].judge
        called = [sent("tools/call", name="survey")]
        assert judge(Run("inspector", "http", called, output=words), 70, "").verdict is LIMIT
        assert judge(Run("inspector", "http", called, output="Request timed out"), 70, "").verdict is WRONG
        assert judge(run_that_ends_with(words), 70, "").verdict is WRONG, "its model must follow"

    @pytest.mark.parametrize(("capabilities", "verdict"), [({}, LIMIT), ({"elicitation": {"form": {}}}, WRONG)])
    def test_a_host_that_is_refused_must_not_have_declared_that_it_can_be_asked(
        self, capabilities: dict[str, Any], verdict: Verdict
    ) -> None:
        run = Run("inspector-2026", "http", output="client did not declare the elicitation capability")
        run.records = [sent("tools/call", _meta={"io.modelcontextprotocol/clientCapabilities": capabilities})]
        assert SCENARIOS["question"].judge(run, 5, "").verdict is verdict

    def test_a_result_that_did_not_come_through_taskmill_or_cost_an_entry_is_wrong(self) -> None:
        judge = SCENARIOS["long call"].judge
        assert judge(run_that_ends_with("35 jars", calls=0), 5, "").verdict is WRONG
        changed = run_that_ends_with("35 jars")
        changed.fault = "the entry is another one"
        assert judge(changed, 5, "") == Judgement(WRONG, "the entry is another one")

    def test_a_long_call_counts_its_calls(self) -> None:
        words = SCENARIOS["long call"].judge(run_that_ends_with("35 jars", calls=3), 5, "").words
        assert "3 calls" in words


class TestRun:
    def test_the_client_names_itself_in_either_era(self) -> None:
        info = {"name": "x", "version": "1"}
        old = Run("a", "http", records=[{"what": "request", "body": {"params": {"clientInfo": info}}}])
        meta = {"_meta": {"io.modelcontextprotocol/clientInfo": info}}
        new = Run("a", "http", records=[{"what": "request", "body": {"params": meta}}])
        assert (old.client, new.client, Run("a", "http").client) == (info, info, {})

    def test_the_revision_is_the_one_that_was_agreed_on(self) -> None:
        run = Run("a", "http", records=[{"what": "answer", "body": {"result": {"protocolVersion": "2025-06-18"}}}])
        assert (run.revision, Run("a", "http").revision) == ("2025-06-18", "")

    def test_the_dialect_says_whether_calls_are_made_tasks(self) -> None:
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}},
        }
        new = Run("a", "http", records=[sent("tools/call", name="survey", _meta=meta)])
        agreed = {"what": "answer", "body": {"result": {"protocolVersion": "2025-11-25"}}}
        old = Run("a", "http", records=[agreed, sent("tools/call", name="survey", task={"ttl": 1})])
        plain = Run("a", "http", records=[agreed, sent("tools/call", name="survey")])
        dialects = [run.dialect for run in (new, old, plain)]
        assert dialects == ["2026-07-28, tasks", "2025-11-25, tasks", "2025-11-25, plain calls"]


def test_a_page_has_one_line_for_a_host_and_a_transport() -> None:
    told = ("gemini", "0.61.0", "http")
    rows = [
        Row(*told, "long call", "gemini-cli", "2025-06-18", RIGHT, "result in 72 s"),
        Row(*told, "interrupt", "gemini-cli", "2025-06-18", LIMIT, "no cancel"),
        Row("codex", "0.171.0", "stdio", "long call", "codex", "2025-06-18, plain calls", RIGHT, "result in 70 s"),
    ]
    assert markdown_of(rows).splitlines() == [
        "| host | version | calls itself | transport | dialect | long call | interrupt |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| codex | 0.171.0 | `codex` | stdio | 2025-06-18, plain calls | right: result in 70 s |  |",
        "| gemini | 0.61.0 | `gemini-cli` | http | 2025-06-18 | right: result in 72 s | host's limit: no cancel |",
    ]


@pytest.mark.parametrize("host", LAUNCHERS)
@pytest.mark.parametrize("url", [None, "http://127.0.0.1:1/mcp"], ids=["stdio", "http"])
def test_every_host_is_pointed_at_the_server_and_writes_below_its_home_only(
    host: str, url: str | None, tmp_path: Path
) -> None:
    stdio = ["taskmill", "stdio", "server.py"]
    setting = Setting(["host"], tmp_path, "http://127.0.0.1:2", prompt_of(SURVEY), url, stdio, {"A": "b"})
    launch = LAUNCHERS[host][1](setting)
    written = "\n".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    everything = written + " ".join(launch.command)
    assert (url or "server.py") in everything


@pytest.mark.parametrize("host", INSTALL_NAMES)
def test_a_host_with_an_installed_server_is_given_nothing_of_it_besides(host: str, tmp_path: Path) -> None:
    setting = Setting(["host"], tmp_path, "http://127.0.0.1:2", prompt_of(SURVEY), None, [], {"A": "b"})
    launch = LAUNCHERS[host][1](setting)
    written = "\n".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "stdio" not in written + " ".join(launch.command)
