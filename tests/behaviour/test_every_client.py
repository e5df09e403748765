"""What holds for every class of client, over HTTP and over pipes, against one deployment of real processes."""

import time
from typing import Any

import pytest

from tests.support.client_classes import Client, Tasks2025, Tasks2026, is_modern
from tests.support.client_wires import ModernHttp, RpcError

pytestmark = pytest.mark.timeout(120)


@pytest.mark.requirement("result-is-the-calls-own")
def test_the_result_is_what_the_tool_returned(client: Client) -> None:
    result = client.begin("steps", count=3).result()
    assert result["structuredContent"] == {"steps": 3}
    assert result["content"][0]["type"] == "text"
    assert not result.get("isError")


@pytest.mark.requirement("tool-error-2025", "tool-error-2026")
def test_an_error_of_the_tools_own_is_a_result_that_says_so(client: Client) -> None:
    task = client.begin("complain", how="tool")
    result = task.result()
    assert result["isError"] is True
    assert "the printer is on fire" in result["content"][0]["text"]
    if client.has_tasks:
        assert task.status()[0] == ("completed" if isinstance(client, Tasks2026) else "failed")


@pytest.mark.requirement("protocol-error")
def test_a_protocol_error_of_the_tool_reaches_the_client_unchanged(client: Client) -> None:
    with pytest.raises(RpcError) as caught:
        client.begin("complain", how="protocol").result()
    error = caught.value.error
    assert (error["code"], error["message"], error["data"]) == (-32050, "no such printer", {"printer": 7})


@pytest.mark.requirement("crash-text-stays")
def test_a_crash_keeps_its_own_text_on_the_server(client: Client) -> None:
    task = client.begin("complain", how="crash")
    result = task.result()
    assert result["isError"] is True
    assert "swordfish" not in str(result)
    assert "reference" in result["content"][0]["text"]


@pytest.mark.requirement("status-says-how-far")
def test_words_and_percentage_are_seen_while_the_tool_runs(client: Client) -> None:
    task = client.begin("stay")
    assert task.until(lambda seen: "settling" in seen[1]) == ("working", "settling in (25%)")
    task.cancel()


@pytest.mark.requirement("cancel-2025", "cancel-2026")
def test_a_cancelled_task_stays_cancelled_and_a_second_cancel_is_told_in_the_dialects_way(client: Client) -> None:
    task = client.begin("stay")
    task.until(lambda seen: "settling" in seen[1])
    task.cancel()
    assert task.status()[0] == "cancelled"
    if isinstance(client, Tasks2025):
        with pytest.raises(RpcError) as caught:
            task.cancel()
        assert caught.value.code == -32602
    else:
        task.cancel()
    assert task.status()[0] == "cancelled"
    with pytest.raises(RpcError):
        task.result()


@pytest.mark.requirement("questions-2025", "questions-2026")
def test_questions_are_asked_once_each_and_their_answers_reach_the_tool(client: Client) -> None:
    result = client.begin("ask_two").result()
    assert result["content"][0]["text"] == "First Second Third"
    assert sorted(client.asked) == ["First?", "Second?", "Third?"]


@pytest.mark.requirement("questions-2025", "questions-2026")
def test_forms_links_models_and_roots_are_asked_for_at_once(client: Client) -> None:
    """`elicitationId` is in a link's request of 2025-11-25, and was removed from 2026-07-28 (its changelog, 11)."""
    result = client.begin("ask_everything").result()

    assert result["structuredContent"] == {"result": ["Who", "accept", "Knock knock.", "file:///srv"]}
    kinds = ["elicitation/create", "elicitation/create", "roots/list", "sampling/createMessage"]
    assert sorted(request["method"] for request in client.requests) == kinds
    (link,) = [request["params"] for request in client.requests if request.get("params", {}).get("mode") == "url"]
    assert ("elicitationId" in link) is not is_modern(client)


@pytest.mark.requirement("required-2025", "required-2026")
def test_a_tool_that_runs_only_as_a_task_is_refused_without_one(clients: dict[str, Client]) -> None:
    for name in ("2026 http", "2026 stdio", "2025 http", "2025 stdio"):
        assert clients[name].begin("strict").result()["content"][0]["text"] == "fine"
    for name, code in (("2025 http", -32601), ("2025 stdio", -32601)):
        with pytest.raises(RpcError) as caught:
            clients[name].wire.request("tools/call", {"name": "strict", "arguments": {}})
        assert caught.value.code == code
    for name in ("2026 http", "2026 stdio"):
        wire: Any = clients[name].wire
        declared, wire.capabilities = wire.capabilities, {"elicitation": {}, "tasks": {"requests": {}}}
        try:
            with pytest.raises(RpcError) as caught:
                wire.request("tools/call", {"name": "strict", "arguments": {}})
        finally:
            wire.capabilities = declared
        assert caught.value.code == -32021
        assert "io.modelcontextprotocol/tasks" in caught.value.error["data"]["requiredCapabilities"]["extensions"]


@pytest.mark.requirement("unknown-id")
def test_an_unknown_id_is_refused_by_every_method(clients: dict[str, Client]) -> None:
    methods = {
        "2026 http": ("tasks/get", "tasks/update", "tasks/cancel"),
        "2026 stdio": ("tasks/get", "tasks/update", "tasks/cancel"),
        "2025 http": ("tasks/get", "tasks/result", "tasks/cancel"),
        "2025 stdio": ("tasks/get", "tasks/result", "tasks/cancel"),
    }
    for name, asked in methods.items():
        for method in asked:
            with pytest.raises(RpcError) as caught:
                clients[name].wire.request(method, {"taskId": "never-was", "inputResponses": {}})
            assert caught.value.code == -32602, (name, method)


@pytest.mark.requirement("arguments-checked-first")
def test_arguments_that_break_the_schema_make_no_task(client: Client) -> None:
    told = ""
    try:
        result = client.begin("steps", count="many").result()
        told = result["content"][0]["text"] if result["isError"] else ""
    except RpcError as error:
        told = str(error)
    assert "count" in told


@pytest.mark.requirement("no-progress-on-task")
def test_a_task_of_2026_sends_no_progress_and_no_log_anywhere(clients: dict[str, Client]) -> None:
    for name in ("2026 http", "2026 stdio"):
        client = clients[name]
        client.wire.received.clear()
        meta = {"progressToken": "t", "io.modelcontextprotocol/logLevel": "debug"}
        created = client.wire.request("tools/call", {"name": "stay", "arguments": {}, "_meta": meta})
        assert created["resultType"] == "task"
        seen = {}
        while "settling" not in seen.get("statusMessage", ""):
            seen = client.wire.request("tasks/get", {"taskId": created["taskId"]})
            time.sleep(0.02)
        client.wire.request("tasks/cancel", {"taskId": created["taskId"]})
        assert client.wire.received == []


@pytest.mark.requirement("notifications-2026", "no-progress-on-task")
def test_a_listening_client_of_2026_hears_of_its_task_and_of_nothing_else(clients: dict[str, Client]) -> None:
    client = clients["2026 http"]
    assert isinstance(client.wire, ModernHttp)
    task: Any = client.begin("steps", count=5)
    methods = []
    for message in client.wire.listen(task.id):
        methods.append(message["method"])
        if message["params"].get("status") == "completed":
            break
    assert methods[0] == "notifications/subscriptions/acknowledged"
    assert set(methods[1:]) == {"notifications/tasks"}


@pytest.mark.requirement("last-updated")
def test_last_updated_moves_only_when_something_changed(clients: dict[str, Client]) -> None:
    for name in ("2026 http", "2026 stdio", "2025 http", "2025 stdio"):
        task: Any = clients[name].begin("stay")
        task.until(lambda seen: "settling" in seen[1])
        seen = [task.get()["lastUpdatedAt"] for _ in range(5)]
        assert len(set(seen)) == 1
        task.cancel()
        assert task.get()["lastUpdatedAt"] > seen[0]


@pytest.mark.requirement("keys-never-reused", "partial-answers")
def test_question_keys_are_never_used_again_and_a_part_of_the_answers_is_kept(clients: dict[str, Client]) -> None:
    for name in ("2026 http", "2026 stdio"):
        client = clients[name]
        task: Any = client.begin("ask_two")
        keys: list[str] = []
        deadline = time.monotonic() + 30
        while (seen := task.get())["status"] not in ("completed", "failed"):
            assert time.monotonic() < deadline, seen
            for key, question in seen.get("inputRequests", {}).items():
                if key not in keys:
                    keys.append(key)
                    answers = {key: client.answer(question), "unknown": {"not": "an answer"}}
                    client.wire.request("tasks/update", {"taskId": task.id, "inputResponses": answers})
                    assert key not in task.get().get("inputRequests", {})
            time.sleep(0.02)
        assert len(keys) == 3
        assert seen["result"]["content"][0]["text"] == "First Second Third"


@pytest.mark.requirement("list-2026", "result-2026")
def test_methods_of_the_other_dialect_are_not_there(clients: dict[str, Client]) -> None:
    for client in clients.values():
        methods = ("tasks/list", "tasks/result") if is_modern(client) else ("tasks/update",)
        for method in methods:
            with pytest.raises(RpcError) as caught:
                client.wire.request(method, {"taskId": "x", "inputResponses": {}})
            assert caught.value.code == -32601


@pytest.mark.requirement("list-2025")
def test_a_client_of_2025_lists_its_tasks(clients: dict[str, Client]) -> None:
    for name in ("2025 http", "2025 stdio"):
        task: Any = clients[name].begin("steps", count=1)
        listed = clients[name].wire.request("tasks/list")["tasks"]
        assert listed[0]["taskId"] == task.id


@pytest.mark.requirement("progress-2025")
def test_progress_of_a_2025_task_comes_under_the_original_token(clients: dict[str, Client]) -> None:
    wire = clients["2025 stdio"].wire
    wire.received.clear()
    params = {"name": "steps", "arguments": {"count": 2}, "task": {}, "_meta": {"progressToken": "first"}}
    created = wire.request("tools/call", params)["task"]
    deadline = time.monotonic() + 30
    statuses: list[str] = []
    while "completed" not in statuses:
        assert time.monotonic() < deadline, wire.received
        wire.request("ping")
        statuses = [
            one["params"]["status"] for one in wire.received if one["params"].get("taskId") == created["taskId"]
        ]
        time.sleep(0.02)
    progress = [one["params"] for one in wire.received if one["method"] == "notifications/progress"]
    assert progress[-1]["progressToken"] == "first"
    assert progress[-1]["_meta"]["io.modelcontextprotocol/related-task"] == {"taskId": created["taskId"]}
    assert {one["method"] for one in wire.received} == {"notifications/progress", "notifications/tasks/status"}


@pytest.mark.requirement("held-progress")
def test_a_held_call_brings_progress_as_it_happens(clients: dict[str, Client]) -> None:
    client = clients["plain"]
    client.wire.received.clear()
    client.begin("steps", count=4).result()
    told = [one["params"] for one in client.wire.received]
    assert {one["progressToken"] for one in told} == {"held"}
    assert told[-1]["message"].startswith("step 4 of 4")
    values = [one["progress"] for one in told]
    assert values == sorted(set(values))


def test_a_delayed_call_says_when_it_starts_and_has_its_result_then(client: Client) -> None:
    client.meta = {"io.taskmill/delay": 3}
    called_at = time.monotonic()
    task = client.begin("steps", count=1)
    status, words = task.until(lambda seen: seen[1].startswith("starts in"))
    assert status == "working", words
    assert task.result()["structuredContent"] == {"steps": 1}
    assert time.monotonic() - called_at >= 3


def test_a_call_that_starts_in_an_hour_can_be_cancelled_before(client: Client) -> None:
    client.meta = {"io.taskmill/delay": 3600}
    task = client.begin("steps", count=1)
    task.until(lambda seen: seen[1].startswith("starts in 60 min"))
    task.cancel()
    assert task.until(lambda seen: seen[0] != "working")[0] == "cancelled"
