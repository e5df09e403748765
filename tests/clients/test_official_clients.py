"""The official clients, unmodified and pinned, against a real `taskmill run`: plain calls, and tasks where they can."""

import json

import pytest

from tests.support.official_clients import Json, Official
from tests.support.results import text_of
from tests.support.tasks_schema import conforming

pytestmark = pytest.mark.timeout(600)  # the first run installs the clients

STEPS = json.dumps({"steps": 4, "pause": 0.2})
COUNTED = [(step, 4, f"step {step} ({step * 25}%)") for step in range(1, 5)]


def progress(seen: list[Json]) -> list[tuple[float, float, str]]:
    return [(saw["progress"], saw["total"], saw["message"]) for saw in seen if saw["saw"] == "progress"]


def all_of(seen: list[Json], kind: str) -> list[Json]:
    return [saw for saw in seen if saw["saw"] == kind]


def succeeded(result: Json) -> Json:
    assert not result.get("isError"), result
    return result


# A plain call: every progress message once and in order, then the result.


def test_python_sdk_1_makes_a_plain_call(url: str, official: Official) -> None:
    with official.python1(url, "call", "count", STEPS) as client:
        seen = client.finish()
    assert seen[0]["revision"] == "2025-11-25"
    assert (progress(seen), text_of(succeeded(seen[-1]))) == (COUNTED, "counted to 4")


@pytest.mark.parametrize(("era", "revision"), [("legacy", "2025-11-25"), ("2026-07-28", "2026-07-28")])
def test_python_sdk_2_makes_a_plain_call_in_both_eras(url: str, official: Official, era: str, revision: str) -> None:
    with official.python2(url, era, "count", STEPS) as client:
        seen = client.finish()
    assert seen[0]["revision"] == revision
    assert (progress(seen), text_of(succeeded(seen[-1]))) == (COUNTED, "counted to 4")


def test_typescript_sdk_1_makes_a_plain_call(url: str, official: Official) -> None:
    with official.typescript(url, "call", "count", STEPS) as client:
        seen = client.finish()
    assert seen[0]["revision"] == "2025-11-25"
    assert (progress(seen), text_of(succeeded(seen[-1]))) == (COUNTED, "counted to 4")


# Tasks of 2026-07-28; the Python SDK 2.x and FastMCP stand in test_clients.py.


def test_ext_tasks_completes_a_task_and_sees_its_messages(url: str, official: Official) -> None:
    with official.ext_tasks(url, "modern", "task", "count", STEPS) as client:
        seen = client.finish()
    (execution,) = all_of(seen, "execution")
    assert execution["kind"] == "task"
    created, *polled = [saw["task"] for saw in all_of(seen, "status")]
    conforming("CreateTaskResult", created)
    messages = [conforming("GetTaskResult", task)["statusMessage"] for task in polled]
    assert {task["taskId"] for task in polled} == {execution["handle"]["taskId"]}
    assert messages[-1] == "completed"
    assert set(messages) & {message for _, _, message in COUNTED}, f"no step was seen: {messages}"
    assert (seen[-1]["status"], text_of(succeeded(seen[-1]["result"]))) == ("completed", "counted to 4")


def test_ext_tasks_answers_a_question(url: str, official: Official) -> None:
    with official.ext_tasks(url, "modern", "task", "book") as client:
        seen = client.finish()
    (question,) = all_of(seen, "question")
    assert question["params"]["message"] == "Which seat would you like?"
    assert text_of(succeeded(seen[-1]["result"])) == "booked row 5 at the window"


def test_ext_tasks_cancels_a_task(url: str, official: Official) -> None:
    with official.ext_tasks(url, "modern", "cancel", "sleep_forever") as client:
        seen = client.finish()
    assert (len(all_of(seen, "cancelled")), seen[-1]["status"]) == (1, "cancelled")


def test_ext_tasks_gets_a_tools_failure_as_its_result(url: str, official: Official) -> None:
    with official.ext_tasks(url, "modern", "task", "stumble") as client:
        seen = client.finish()
    assert (seen[-1]["status"], seen[-1]["result"]["isError"]) == ("completed", True)


def test_typescript_sdk_1_comes_back_once_for_a_refused_call(url: str, official: Official) -> None:
    """Its transport takes no error for an answer, and asks for the rest of the stream; it must not go on asking."""
    with official.typescript(url, "refused", "refuse") as client:
        seen = client.finish()
    (error,) = all_of(seen, "error")
    assert (error["code"], text_of(succeeded(seen[-1]))) == (-32050, "counted to 2")
    returns = [saw for saw in all_of(seen, "get") if saw["cursor"]]
    assert [saw["status"] for saw in returns] == [204]


# Tasks of 2025-11-25


RELATED = "io.modelcontextprotocol/related-task"


def test_python_sdk_1_runs_a_task(url: str, official: Official) -> None:
    with official.python1(url, "task", "count", STEPS) as client:
        seen = client.finish()
    (created,) = [saw["task"] for saw in all_of(seen, "created")]
    assert created["status"] == "working"
    statuses = all_of(seen, "status")
    assert {status["taskId"] for status in statuses} == {created["taskId"]}
    assert statuses[-1]["status"] == "completed"
    assert {status["statusMessage"] for status in statuses} & {message for _, _, message in COUNTED}
    (result,) = all_of(seen, "result")
    assert text_of(succeeded(result)) == "counted to 4"
    assert result["_meta"][RELATED] == {"taskId": created["taskId"]}
    assert created["taskId"] in all_of(seen, "listed")[0]["ids"]


def test_python_sdk_1_answers_a_tasks_question_on_the_stream_of_its_result(url: str, official: Official) -> None:
    with official.python1(url, "task", "book") as client:
        seen = client.finish()
    (question,) = all_of(seen, "question")
    task_id = all_of(seen, "created")[0]["task"]["taskId"]
    assert question["params"]["message"] == "Which seat would you like?"
    assert question["params"]["_meta"][RELATED] == {"taskId": task_id}
    assert "input_required" in [status["status"] for status in all_of(seen, "status")]
    assert text_of(succeeded(all_of(seen, "result")[0])) == "booked row 5 at the window"


def test_python_sdk_1_cancels_a_task(url: str, official: Official) -> None:
    with official.python1(url, "cancel", "sleep_forever") as client:
        seen = client.finish()
    (cancelled,) = all_of(seen, "cancelled")
    assert (cancelled["status"], seen[-1]["status"]) == ("cancelled", "cancelled")


def test_typescript_sdk_1_streams_a_task_with_its_progress(url: str, official: Official) -> None:
    with official.typescript(url, "stream", "count", STEPS) as client:
        seen = client.finish()
    (created,) = all_of(seen, "taskCreated")
    statuses = [saw["task"] for saw in all_of(seen, "taskStatus")]
    assert {status["taskId"] for status in statuses} == {created["task"]["taskId"]}
    assert [status["status"] for status in statuses][-1] == "completed"
    assert progress(seen) == COUNTED
    (result,) = all_of(seen, "result")
    assert text_of(succeeded(result["result"])) == "counted to 4"


def test_typescript_sdk_1_answers_a_tasks_question(url: str, official: Official) -> None:
    with official.typescript(url, "stream", "book") as client:
        seen = client.finish()
    (question,) = all_of(seen, "question")
    assert len(all_of(seen, "taskCreated")) == 1
    assert question["params"]["message"] == "Which seat would you like?"
    assert text_of(succeeded(all_of(seen, "result")[0]["result"])) == "booked row 5 at the window"


def test_typescript_sdk_1_cancels_a_task(url: str, official: Official) -> None:
    with official.typescript(url, "cancel", "sleep_forever") as client:
        seen = client.finish()
    assert [saw["status"] for saw in all_of(seen, "cancelled")] == ["cancelled"]
    assert "was cancelled" in seen[-1]["error"]


def test_typescript_sdk_1_is_told_why_a_task_failed(url: str, official: Official) -> None:
    with official.typescript(url, "stream", "stumble") as client:
        seen = client.finish()
    last = [saw["task"] for saw in all_of(seen, "taskStatus")][-1]
    assert (last["status"], seen[-1]["saw"]) == ("failed", "error")
    assert "The ground was uneven" in last["statusMessage"]


def test_ext_tasks_runs_a_task_in_a_session(url: str, official: Official) -> None:
    with official.ext_tasks(url, "legacy", "task", "count", STEPS) as client:
        seen = client.finish()
    assert (seen[0]["era"], all_of(seen, "execution")[0]["kind"]) == ("legacy", "task")
    assert (seen[-1]["status"], text_of(succeeded(seen[-1]["result"]))) == ("completed", "counted to 4")


def test_ext_tasks_answers_a_question_in_a_session(url: str, official: Official) -> None:
    """It does not ask for the result before the task has ended, so the question must find another way."""
    with official.ext_tasks(url, "legacy", "task", "book") as client:
        seen = client.finish()
    assert (all_of(seen, "execution")[0]["kind"], len(all_of(seen, "question"))) == ("task", 1)
    assert text_of(succeeded(seen[-1]["result"])) == "booked row 5 at the window"


def test_ext_tasks_cancels_a_task_in_a_session(url: str, official: Official) -> None:
    with official.ext_tasks(url, "legacy", "cancel", "sleep_forever") as client:
        seen = client.finish()
    assert (len(all_of(seen, "cancelled")), seen[-1]["status"]) == (1, "cancelled")
