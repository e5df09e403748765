"""Clients that were not written here, or not with our code, against a real `taskmill run` process.

A raw HTTP client made from the specification's text, the official SDK's client, and FastMCP's client each complete a
task, see its messages, answer its question and cancel it. Every payload of the extension is held against its schema.
"""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp.client.session import ClientRequestContext
from mcp.types import ElicitRequestParams, ElicitResult, TextContent

from tests.support.official_clients import Official, needed
from tests.support.raw_http import TASKS, RawClient, Refused
from tests.support.results import text_of
from tests.support.sdk_extension import CreatedTask, TasksExtension, send_tasks
from tests.support.tasks_schema import TERMINAL, conforming
from tests.support.waiting import eventually

CLIENTS = Path(__file__).parent

Json = dict[str, Any]


@pytest.fixture
def raw(url: str) -> RawClient:
    return RawClient(url)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """The file that `dig` waits for."""
    return tmp_path / "gate"


def polled(raw: RawClient, task_id: str, enough: Callable[[Json], object]) -> Json:
    """The first `tasks/get` that is enough; all on the way are held against the schema."""
    task = eventually(
        lambda: conforming("GetTaskResult", raw.get_task(task_id)),
        lambda task: enough(task) or is_terminal(task),
        within=20,
    )
    assert enough(task), f"the task ended before that: {task}"
    return task


def is_terminal(task: Json) -> bool:
    return task["status"] in TERMINAL


def created(raw: RawClient, tool: str, **arguments: Any) -> str:
    return str(conforming("CreateTaskResult", raw.call_tool(tool, arguments))["taskId"])


# The raw client


def test_discovery_advertises_the_extension_and_no_older_tasks(raw: RawClient) -> None:
    discovered = raw.discover()
    assert discovered["capabilities"]["extensions"][TASKS] == {}
    assert "tasks" not in discovered["capabilities"]
    assert "2026-07-28" in discovered["supportedVersions"]


def test_raw_client_completes_a_task_and_sees_its_messages(raw: RawClient, gate: Path) -> None:
    task_id = created(raw, "dig", gate=str(gate))
    working = polled(raw, task_id, lambda task: "half of the hole" in task.get("statusMessage", ""))
    assert working["status"] == "working"
    gate.touch()
    assert text_of(polled(raw, task_id, is_terminal)["result"]) == "dug"


def test_raw_client_is_told_of_every_change_it_listens_for(raw: RawClient, gate: Path) -> None:
    """Tasks, "Task Status Notifications": each carries what `tasks/get` would have returned."""
    task_id = created(raw, "dig", gate=str(gate))
    with raw.listen({"taskIds": [task_id]}) as subscription:
        assert subscription.acknowledged == {"taskIds": [task_id]}
        gate.touch()
        heard = []
        for notification in subscription:
            heard.append(conforming("TaskStatusNotification", notification)["params"])
            if is_terminal(heard[-1]):
                break
    assert {task["taskId"] for task in heard} == {task_id}
    stamps = [task["lastUpdatedAt"] for task in heard]
    assert stamps == sorted(stamps)
    assert without_envelope(heard[-1]) == without_envelope(raw.get_task(task_id))


def test_listening_to_a_finished_task_tells_its_end(raw: RawClient) -> None:
    """Otherwise a task that ends between its creation and the subscription is waited for in vain."""
    task_id = created(raw, "stumble")
    ended = polled(raw, task_id, is_terminal)
    with raw.listen({"taskIds": [task_id]}) as subscription:
        told = conforming("TaskStatusNotification", next(iter(subscription)))["params"]
    assert without_envelope(told) == without_envelope(ended)


def test_raw_client_answers_a_question(raw: RawClient) -> None:
    task_id = created(raw, "book")
    parked = polled(raw, task_id, lambda task: task["status"] == "input_required")
    ((key, question),) = parked["inputRequests"].items()
    assert question["method"] == "elicitation/create"
    assert question["params"]["message"] == "Which seat would you like?"
    assert set(question["params"]["requestedSchema"]["required"]) == {"row", "window"}

    answer = {"action": "accept", "content": {"row": 3, "window": False}}
    # Tasks, "Task Update Requests": keys that are not outstanding are ignored, whatever their values are.
    acknowledged = conforming("UpdateTaskResult", raw.update_task(task_id, {"never-asked": {"odd": 1}, key: answer}))
    assert without_envelope(acknowledged) == {}
    assert text_of(polled(raw, task_id, is_terminal)["result"]) == "booked row 3"


def test_raw_client_declines_a_question(raw: RawClient) -> None:
    task_id = created(raw, "book")
    parked = polled(raw, task_id, lambda task: task["status"] == "input_required")
    raw.update_task(task_id, {key: {"action": "decline"} for key in parked["inputRequests"]})
    assert text_of(polled(raw, task_id, is_terminal)["result"]) == "nothing booked: decline"


def test_client_that_cannot_be_asked_is_not_asked(url: str) -> None:
    """Multi Round-Trip Requests: input is requested only in ways that the client declared."""
    raw = RawClient(url, capabilities={"extensions": {TASKS: {}}})
    ended = polled(raw, created(raw, "book"), is_terminal)
    assert (ended["status"], ended["error"]["code"]) == ("failed", -32021)
    assert "elicitation" in ended["error"]["data"]["requiredCapabilities"]


def test_raw_client_cancels_a_task_more_than_once(raw: RawClient) -> None:
    task_id = created(raw, "sleep_forever")
    polled(raw, task_id, lambda task: "asleep" in task.get("statusMessage", ""))
    assert without_envelope(conforming("CancelTaskResult", raw.cancel_task(task_id))) == {}
    assert polled(raw, task_id, is_terminal)["status"] == "cancelled"
    assert without_envelope(conforming("CancelTaskResult", raw.cancel_task(task_id))) == {}


def test_cancelling_a_question_ends_the_wait_for_it(raw: RawClient) -> None:
    task_id = created(raw, "book")
    polled(raw, task_id, lambda task: task["status"] == "input_required")
    raw.cancel_task(task_id)
    assert polled(raw, task_id, is_terminal)["status"] == "cancelled"


def test_tool_failure_completes_the_task(raw: RawClient) -> None:
    """Tasks, "Task Execution Errors": `failed` is for JSON-RPC errors only."""
    ended = polled(raw, created(raw, "stumble"), is_terminal)
    assert (ended["status"], ended["result"]["isError"]) == ("completed", True)
    assert "The ground was uneven" in text_of(ended["result"])


def test_server_decides_what_becomes_a_task(raw: RawClient, gate: Path) -> None:
    """The hint of the 2025-11-25 revision changes nothing, neither for an ordinary tool nor for a task tool."""
    hint = {"ttl": 60_000}
    assert raw.call_tool("add", {"a": 2, "b": 3}, task=hint)["resultType"] == "complete"
    gate.touch()
    assert raw.call_tool("dig", {"gate": str(gate)}, task=hint)["resultType"] == "task"


def test_client_without_the_extension_gets_the_result_itself(url: str, gate: Path) -> None:
    """Tasks, "Capability Negotiation": a task handle is for those who declared that they can take it."""
    gate.touch()
    result = RawClient(url, capabilities={}).call_tool("dig", {"gate": str(gate)})
    assert (result["resultType"], result["content"][0]["text"]) == ("complete", "dug")


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tasks/get", {"taskId": "unknown"}),
        ("tasks/update", {"taskId": "unknown", "inputResponses": {}}),
        ("tasks/cancel", {"taskId": "unknown"}),
        ("subscriptions/listen", {"notifications": {"taskIds": ["unknown"]}}),
    ],
)
def test_client_without_the_extension_is_told_what_it_lacks(url: str, method: str, params: Json) -> None:
    """Tasks, "Protocol Errors": -32021, and before anybody looks for the task."""
    with pytest.raises(Refused) as refused:
        RawClient(url, capabilities={}).request(method, params)
    assert refused.value.code == -32021
    assert refused.value.data["requiredCapabilities"] == {"extensions": {TASKS: {}}}


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tasks/get", {"taskId": "unknown"}),
        ("tasks/update", {"taskId": "unknown", "inputResponses": {}}),
        ("tasks/cancel", {"taskId": "unknown"}),
    ],
)
def test_unknown_task_is_an_invalid_parameter(raw: RawClient, method: str, params: Json) -> None:
    with pytest.raises(Refused) as refused:
        raw.request(method, params)
    assert refused.value.code == -32602


def test_name_header_may_not_hold_another_id(raw: RawClient) -> None:
    """Streamable HTTP, "Server Validation": a header that differs from the body is refused with HTTP 400."""
    task_id = created(raw, "book")
    with pytest.raises(Refused) as refused:
        raw.request("tasks/get", {"taskId": task_id}, {"Mcp-Name": "another-task"})
    assert (refused.value.http_status, refused.value.code) == (400, -32020)
    raw.cancel_task(task_id)


def without_envelope(payload: Json) -> Json:
    """What is said, without who says it to whom and in answer to what."""
    return {name: value for name, value in payload.items() if name not in ("_meta", "resultType")}


# The official SDK's client


async def test_sdk_client_completes_a_task_and_sees_its_messages(url: str, gate: Path) -> None:
    messages = []

    def seen(shape: str, payload: Json) -> None:
        messages.append(conforming(shape, payload).get("statusMessage", ""))
        if "half of the hole" in messages[-1]:
            gate.touch()

    async with Client(url, extensions=[TasksExtension(seen)]) as client:
        with anyio.fail_after(30):
            result = await client.call_tool("dig", {"gate": str(gate)})
    assert result.content == [TextContent(type="text", text="dug")]
    assert gate.exists()


async def test_sdk_client_answers_a_question(url: str) -> None:
    shapes = []

    def seen(shape: str, payload: Json) -> None:
        conforming(shape, payload)
        shapes.append(shape)

    async def elicit(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        assert params.message == "Which seat would you like?"
        return ElicitResult(action="accept", content={"row": 12, "window": True})

    extension = TasksExtension(seen, elicit)
    async with Client(url, extensions=[extension], elicitation_callback=elicit) as client:
        with anyio.fail_after(30):
            result = await client.call_tool("book")
    assert result.content == [TextContent(type="text", text="booked row 12 at the window")]
    assert shapes.count("UpdateTaskResult") == 1


async def test_sdk_client_cancels_a_task(url: str) -> None:
    async with Client(url, extensions=[TasksExtension()]) as client:
        task = await client.session.call_tool("sleep_forever", allow_claimed=True)
        assert isinstance(task, CreatedTask)
        conforming("CreateTaskResult", task.payload())
        conforming("CancelTaskResult", await send_tasks(client.session, "tasks/cancel", task.task_id))
        with anyio.fail_after(30):
            while not is_terminal(state := await send_tasks(client.session, "tasks/get", task.task_id)):
                await anyio.sleep(0.02)
    assert conforming("GetTaskResult", state)["status"] == "cancelled"


# FastMCP's client


@pytest.fixture(scope="module")
def fastmcp(url: str, official: Official, tmp_path_factory: pytest.TempPathFactory) -> Json:
    """What FastMCP's client saw; it runs in an environment of its own."""
    gate = tmp_path_factory.mktemp("fastmcp") / "gate"
    command = [needed(official.peers, "FastMCP's client"), CLIENTS / "fastmcp_client.py", url, gate]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    seen: Json = json.loads(done.stdout)
    return seen


@pytest.mark.timeout(600)
def test_fastmcp_client_completes_a_task_and_sees_its_messages(fastmcp: Json) -> None:
    dug = fastmcp["dig"]
    conforming("CreateTaskResult", dug["created"])
    assert any("half of the hole" in message for message in dug["messages"])
    assert conforming("GetTaskResult", dug["ended"])["status"] == "completed"
    assert (dug["result"], fastmcp["transparent"]) == ("dug", "dug")


@pytest.mark.timeout(600)
def test_fastmcp_client_calls_an_ordinary_tool(fastmcp: Json) -> None:
    assert fastmcp["add"] == "5"


@pytest.mark.timeout(600)
def test_fastmcp_client_answers_a_question(fastmcp: Json) -> None:
    assert fastmcp["book"] == "booked row 7 at the window"


@pytest.mark.timeout(600)
def test_fastmcp_client_cancels_a_task(fastmcp: Json) -> None:
    assert conforming("GetTaskResult", fastmcp["sleep_forever"])["status"] == "cancelled"
