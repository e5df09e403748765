"""tasks/get, tasks/update, tasks/cancel: shapes, texts, rules, and the same answer for every id of another owner."""

import asyncio
import base64
import http.client
import json
import re
from typing import Any

import anyio
import httpx2
import pytest
from jsonschema import Draft202012Validator
from redis.asyncio import Redis

from taskmill.store.formats.keys import Keys
from taskmill.store.settings import StoreSettings
from tests.support.replica import TASKS, Rpc
from tests.support.tasks_schema import SCHEMA

ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def check(definition: str, value: Any) -> None:
    """Hold a payload against the extension's published schema."""
    Draft202012Validator({**SCHEMA, "$ref": f"#/$defs/{definition}"}).validate(value)


async def test_a_finished_task_carries_what_the_call_would_have_returned(any_rpc: Rpc) -> None:
    task = await any_rpc.done(await any_rpc.task("steps", count=3))
    check("GetTaskResult", task)
    assert (task["status"], task["resultType"], task["statusMessage"]) == ("completed", "complete", "completed")
    assert task["result"]["structuredContent"] == {"steps": 3}
    assert task["result"]["isError"] is False
    assert "io.modelcontextprotocol/related-task" not in json.dumps(task)
    assert task["ttlMs"] > 24 * 3600 * 1000
    assert ISO.fullmatch(task["createdAt"])
    assert ISO.fullmatch(task["lastUpdatedAt"])


@pytest.mark.requirement("status-says-how-far", "ttl-covers-life")
async def test_a_running_task_says_how_far_it_is(rpc: Rpc) -> None:
    task_id = await rpc.task("stay")
    with anyio.fail_after(30):
        while (task := (await rpc.get(task_id))["result"])["statusMessage"] != "settling in (25%)":
            await anyio.sleep(0.01)
    check("GetTaskResult", task)
    assert (task["status"], task["ttlMs"]) == ("working", None)


async def test_a_queued_task_says_how_many_are_before_it(idle_rpc: Rpc) -> None:
    tasks = [await idle_rpc.task("stay") for _ in range(3)]
    said = [(await idle_rpc.get(task_id))["result"]["statusMessage"] for task_id in tasks]
    places = ["queued, next in line", "queued behind 1", "queued behind 2"]
    assert said == [f"{place}; no worker serves its queue right now" for place in places]


async def test_a_queued_task_says_how_long_it_will_wait_by_the_pace_of_its_workers(idle_rpc: Rpc, redis: Redis) -> None:
    keys = Keys()
    for name, queue, mean in (("a", "default", 60.0), ("b", "default", 120.0), ("c", "other", 0.1)):
        says = {"worker": name, "queue": queue, "concurrency": 1, "mean_seconds": mean}
        await redis.set(keys.worker(name), json.dumps(says), px=60_000)
        await redis.sadd(keys.workers, name)  # type: ignore[misc]
    tasks = [await idle_rpc.task("stay") for _ in range(4)]
    said = [(await idle_rpc.get(task_id))["result"]["statusMessage"] for task_id in tasks]
    assert said == [
        "queued, next in line",
        "queued behind 1, about 40 s",
        "queued behind 2, about 80 s",
        "queued behind 3, about 2 min",
    ]


@pytest.mark.requirement("last-updated")
async def test_last_updated_at_moves_only_when_something_changed(rpc: Rpc) -> None:
    task_id = await rpc.task("stay")
    with anyio.fail_after(30):
        while "settling" not in (seen := (await rpc.get(task_id))["result"])["statusMessage"]:
            await anyio.sleep(0.01)
    for _ in range(5):
        assert (await rpc.get(task_id))["result"] == seen


async def test_a_tool_error_is_a_completed_task(rpc: Rpc) -> None:
    """tasks extension, "Task Execution Errors": `failed` is for JSON-RPC errors only."""
    task = await rpc.done(await rpc.task("complain", how="tool"))
    assert (task["status"], task["result"]["isError"]) == ("completed", True)
    assert task["result"]["content"][0]["text"] == "Error executing tool complain: the printer is on fire"
    assert task["statusMessage"] == "the tool reported an error"


async def test_a_protocol_error_is_a_failed_task_with_that_error(rpc: Rpc) -> None:
    task = await rpc.done(await rpc.task("complain", how="protocol"))
    check("GetTaskResult", task)
    assert (task["status"], "result" in task) == ("failed", False)
    assert task["error"] == {"code": -32050, "message": "no such printer", "data": {"printer": 7}}


async def test_a_crash_keeps_its_text_on_the_server(rpc: Rpc, capsys: pytest.CaptureFixture[str]) -> None:
    task = await rpc.done(await rpc.task("complain", how="crash"))
    assert (task["status"], task["result"]["isError"]) == ("completed", True)
    text = task["result"]["content"][0]["text"]
    assert "swordfish" not in json.dumps(task)
    match = re.fullmatch(r"Error executing tool complain \(reference ([0-9a-f]{8})\)", text)
    assert match
    assert match[1] in "".join(capsys.readouterr())


async def test_a_plain_function_runs_as_a_task(rpc: Rpc) -> None:
    task = await rpc.done(await rpc.task("plain", text="quiet"))
    assert task["result"]["content"][0]["text"] == "QUIET"


async def test_the_context_knows_its_task(redis: Redis, rpc: Rpc) -> None:
    task_id = await rpc.task("facts")
    task = await rpc.done(task_id)
    assert task["result"]["structuredContent"] == {
        "task_id": task_id,
        "idempotency_key": task_id,
        "attempt": 1,
        "fence": 1,
        "cancelled": False,
        "lifespan": {},
    }


async def test_the_policy_sets_retention_and_poll_interval(rpc: Rpc) -> None:
    task_id = await rpc.task("strict")
    task = await rpc.done(task_id)
    assert task["pollIntervalMs"] == 200
    assert 60_000 <= task["ttlMs"] < 70_000


async def test_cancel_is_acknowledged_with_nothing_and_ends_the_task_at_once(rpc: Rpc) -> None:
    task_id = await rpc.task("stay")
    ack = (await rpc.ask("tasks/cancel", {"taskId": task_id}, name=task_id))["result"]
    check("CancelTaskResult", ack)
    assert ack.keys() - {"_meta"} == {"resultType"}
    task = (await rpc.get(task_id))["result"]
    assert (task["status"], task["statusMessage"]) == ("cancelled", "cancelled")


async def test_cancel_of_an_ended_task_is_acknowledged_and_changes_nothing(rpc: Rpc) -> None:
    task_id = await rpc.task("steps", count=1)
    done = await rpc.done(task_id)
    ack = (await rpc.ask("tasks/cancel", {"taskId": task_id}, name=task_id))["result"]
    assert ack.keys() - {"_meta"} == {"resultType"}
    assert (await rpc.get(task_id))["result"] == done


async def answer(rpc: Rpc, task_id: str, answers: dict[str, Any]) -> dict[str, Any]:
    return await rpc.ask("tasks/update", {"taskId": task_id, "inputResponses": answers}, name=task_id)


async def test_two_questions_are_open_at_once_and_answered_one_by_one(rpc: Rpc) -> None:
    """tasks extension, "Task Update Requests"."""
    task_id = await rpc.task("ask")
    with anyio.fail_after(30):
        while len((task := await rpc.until(task_id, "input_required"))["inputRequests"]) < 2:
            await anyio.sleep(0.01)
    check("GetTaskResult", task)
    assert task["statusMessage"] == "waiting for 2 answers"
    first, second = task["inputRequests"]
    ack = (await answer(rpc, task_id, {first: {"action": "accept", "content": {"name": "Ada"}}}))["result"]
    assert ack.keys() - {"_meta"} == {"resultType"}
    task = (await rpc.get(task_id))["result"]
    assert (task["status"], list(task["inputRequests"])) == ("input_required", [second])
    await answer(rpc, task_id, {second: {"action": "decline"}})
    assert (await rpc.done(task_id))["result"]["content"][0]["text"] == "Ada decline"


@pytest.mark.requirement("partial-answers")
async def test_unknown_and_answered_keys_are_ignored_before_their_values_are_read(rpc: Rpc) -> None:
    task_id = await rpc.task("ask")
    while len((task := await rpc.until(task_id, "input_required"))["inputRequests"]) < 2:
        await asyncio.sleep(0.01)
    key = next(iter(task["inputRequests"]))
    assert "result" in await answer(rpc, task_id, {"unknown-key": {"ignored": True}})
    assert "result" in await answer(rpc, task_id, {key: {"action": "accept", "content": {"name": "Ada"}}})
    assert "result" in await answer(rpc, task_id, {key: "nonsense", "another": 5})
    assert key not in (await rpc.get(task_id))["result"]["inputRequests"]


@pytest.mark.parametrize(
    "bad", [5, {}, {"action": "perhaps"}, {"action": "accept", "content": {"name": 5}}, {"action": "accept"}]
)
async def test_an_answer_that_breaks_its_schema_is_refused_and_the_question_stays(rpc: Rpc, bad: Any) -> None:
    task_id = await rpc.task("ask")
    key = next(iter((await rpc.until(task_id, "input_required"))["inputRequests"]))
    error = (await answer(rpc, task_id, {key: bad}))["error"]
    assert error["code"] == -32602
    assert key in error["message"]
    assert key in (await rpc.get(task_id))["result"]["inputRequests"]


async def test_a_task_waiting_for_an_answer_can_be_cancelled(rpc: Rpc) -> None:
    task_id = await rpc.task("ask")
    await rpc.until(task_id, "input_required")
    await rpc.ask("tasks/cancel", {"taskId": task_id}, name=task_id)
    assert (await rpc.get(task_id))["result"]["status"] == "cancelled"


async def test_a_client_that_cannot_ask_its_user_is_not_asked(rpc: Rpc) -> None:
    mute = Rpc(rpc.http, rpc.url, {"extensions": {TASKS: {}}})
    task = await mute.done(await mute.task("ask"))
    assert (task["status"], task["error"]["code"]) == ("failed", -32021)
    assert task["error"]["data"] == {"requiredCapabilities": {"elicitation": {}}}


METHODS = ["tasks/get", "tasks/update", "tasks/cancel"]


def params(method: str, task_id: str) -> dict[str, Any]:
    return {"taskId": task_id, **({"inputResponses": {}} if method == "tasks/update" else {})}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.requirement("unknown-id")
async def test_unknown_expired_and_foreign_ids_get_one_answer(
    method: str, rpc: Rpc, redis: Redis, settings: StoreSettings
) -> None:
    """tasks extension, "Protocol Errors": -32602; the three answers do not differ."""
    keys = Keys(settings.prefix)
    expired = await rpc.task("steps", count=1)
    await rpc.done(expired)
    await redis.pexpire(keys.record(expired), 1)
    foreign = await rpc.task("stay")
    await redis.hset(keys.record(foreign), "principal", "somebody-else")
    with anyio.fail_after(30):
        while await redis.exists(keys.record(expired)):
            await anyio.sleep(0.001)
    replies = [
        await rpc.post(method, params(method, task_id), name=task_id) for task_id in ("no-such-task", expired, foreign)
    ]
    assert {reply.status_code for reply in replies} == {400}
    assert [reply.json()["error"] for reply in replies] == [
        {"code": -32602, "message": "Task not found: it never existed, has expired, or belongs to another caller."}
    ] * 3
    assert await redis.hget(keys.record(foreign), "status") == b"running"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.requirement("capability-before-id")
async def test_a_client_that_did_not_declare_the_extension_is_refused_before_the_id_is_looked_up(
    method: str, rpc: Rpc
) -> None:
    response = await rpc.without_tasks().post(method, params(method, "gate-test"), name="gate-test")
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["code"], error["data"]) == (-32021, {"requiredCapabilities": {"extensions": {TASKS: {}}}})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["another-id", "=?base64?bm90LWl0?=", ""])
@pytest.mark.requirement("headers-2026")
async def test_a_name_header_that_is_not_the_task_id_is_refused(method: str, name: str, rpc: Rpc) -> None:
    """tasks extension, "Streamable HTTP: Routing Headers"."""
    task_id = await rpc.task("stay")
    response = await rpc.post(method, params(method, task_id), name=name)
    assert (response.status_code, response.json()["error"]["code"]) == (400, -32020)
    assert (await rpc.get(task_id))["result"]["status"] == "working"


async def test_the_name_header_may_be_missing(rpc: Rpc) -> None:
    """Required of clients only; unmodified clients that leave it out must be able to follow a task."""
    task_id = await rpc.task("stay")
    response = await rpc.post("tasks/get", {"taskId": task_id})
    assert response.json()["result"]["status"] == "working"


@pytest.mark.parametrize("blanks", ["  {}  ", "{}\t", "\t{}"])
async def test_blanks_around_a_header_value_do_not_count(blanks: str, rpc: Rpc) -> None:
    """RFC 9110, 5.5. Sent by http.client, because the other client refuses to."""
    task_id = await rpc.task("stay")
    parts = rpc.request("tasks/get", {"taskId": task_id}, name=blanks.format(task_id))
    url = httpx2.URL(rpc.url)

    def send() -> dict[str, Any]:
        connection = http.client.HTTPConnection(url.host, url.port or 80, timeout=30)
        connection.request("POST", url.path, body=parts["content"], headers=parts["headers"])
        reply: dict[str, Any] = json.loads(connection.getresponse().read())
        return reply

    assert (await asyncio.to_thread(send))["result"]["status"] == "working"


@pytest.mark.parametrize(
    ("header", "value"), [("mcp_method", "tasks/get"), ("mcp_method", None), ("mcp_protocol_version", "2025-11-25")]
)
async def test_a_wrong_header_of_the_base_protocol_is_refused(header: str, value: str | None, rpc: Rpc) -> None:
    parts: dict[str, Any] = {header: value}
    response = await rpc.post("tools/call", {"name": "strict", "arguments": {}}, name="strict", **parts)
    assert response.status_code == 400


@pytest.mark.parametrize("method", ["tasks/result", "tasks/list", "tasks/nonsense"])
async def test_methods_of_other_revisions_do_not_exist_here(method: str, rpc: Rpc) -> None:
    response = await rpc.post(method, {"taskId": "x"}, name="x")
    assert (response.status_code, response.json()["error"]["code"]) == (404, -32601)


@pytest.mark.parametrize(
    "bad", [{}, {"taskId": 5}, {"taskId": None}, {"taskId": "x" * 300}, {"taskId": ["x"]}, {"taskId": {}}]
)
async def test_a_malformed_task_id_is_an_invalid_parameter(bad: dict[str, Any], rpc: Rpc) -> None:
    response = await rpc.post("tasks/get", bad, name="x")
    assert (response.status_code, response.json()["error"]["code"]) == (400, -32602)


@pytest.mark.parametrize("bad", ["\ud800", "a\x00b", "x\ny"])
async def test_a_task_id_of_unusual_text_is_unknown_or_invalid_never_an_internal_error(bad: str, rpc: Rpc) -> None:
    quoted = "=?base64?" + base64.b64encode(bad.encode("utf-8", "replace")).decode() + "?="
    response = await rpc.post("tasks/get", {"taskId": bad}, name=quoted)
    assert response.status_code == 400
    assert response.json()["error"]["code"] in (-32602, -32020)


async def test_an_outcome_that_is_not_json_fails_the_task_and_nothing_else(rpc: Rpc) -> None:
    task = await rpc.done(await rpc.task("complain", how="unwritable"))
    assert (task["status"], task["error"]["data"]["reason"]) == ("failed", "not_json")
    assert (await rpc.done(await rpc.task("steps", count=1)))["status"] == "completed"


async def test_progress_that_is_no_number_counts_as_not_reported(rpc: Rpc) -> None:
    task_id = await rpc.task("mumble")
    with anyio.fail_after(30):
        while (said := (await rpc.get(task_id))["result"]["statusMessage"]) == "running" or "queued" in said:
            await anyio.sleep(0.01)
    assert said == "half a pair: ?"
