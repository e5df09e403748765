"""The tasks of protocol revision 2025-11-25, over HTTP with two replicas, real Redis and the real worker loop."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import anyio
import httpx2
import pytest
from redis.asyncio import Redis

from taskmill.server.settings import ServerSettings
from taskmill.store.formats.keys import Keys
from tests.server.session_client import Session, next_message, open_session, rest
from tests.support.replica import serving, working
from tests.support.sample_server import make_server

RELATED = "io.modelcontextprotocol/related-task"
Pair = tuple[Session, Session]


@pytest.fixture
async def pair(redis: Redis, settings: ServerSettings) -> AsyncIterator[Pair]:
    """One session at two replicas, and a worker."""
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(serving(make_server(settings).http_app())) + "/mcp" for _ in range(2)]
        await stack.enter_async_context(working(make_server(settings), settings))
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=30))
        session = await open_session(http, urls[0])
        yield session, session.at(urls[1])


@pytest.mark.requirement("capability-2025")
async def test_the_server_declares_tasks_to_this_revision_and_to_no_earlier_one(pair: Pair) -> None:
    here, _ = pair
    declared = {}
    for revision in ("2025-11-25", "2025-06-18"):
        body = Session(here.http, here.url, None, revision).request(
            "initialize",
            protocolVersion=revision,
            capabilities={},
            clientInfo={"name": "tests", "version": "1"},
        )
        response = await Session(here.http, here.url, None, revision).post(body)
        declared[revision] = response.json()["result"]["capabilities"].get("tasks")
    assert declared == {
        "2025-11-25": {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}},
        "2025-06-18": None,
    }


@pytest.mark.requirement("tool-support")
async def test_tools_say_whether_they_run_as_tasks(pair: Pair) -> None:
    here, _ = pair
    tools = {tool["name"]: tool for tool in (await here.ask("tools/list"))["result"]["tools"]}
    assert "execution" not in tools["hello"]
    assert tools["steps"]["execution"] == {"taskSupport": "optional"}
    assert tools["strict"]["execution"] == {"taskSupport": "required"}


@pytest.mark.requirement("result-2025", "related-task", "any-replica")
async def test_a_task_is_created_followed_and_its_result_fetched_on_another_replica(pair: Pair) -> None:
    here, there = pair
    task = await here.task("steps", count=3)
    assert task["status"] == "working"
    assert {"taskId", "status", "createdAt", "lastUpdatedAt", "ttl", "pollInterval"} <= task.keys()

    result = (await there.ask("tasks/result", taskId=task["taskId"]))["result"]
    assert result["structuredContent"] == {"steps": 3}
    assert result["_meta"][RELATED] == {"taskId": task["taskId"]}

    ended = (await there.ask("tasks/get", taskId=task["taskId"]))["result"]
    assert ended["status"] == "completed"
    assert RELATED not in ended.get("_meta", {})


@pytest.mark.requirement("create-2025")
async def test_the_handle_has_a_text_for_a_model(pair: Pair) -> None:
    here, _ = pair
    reply = await here.ask("tools/call", name="steps", arguments={"count": 1}, task={})
    words = reply["result"]["_meta"]["io.modelcontextprotocol/model-immediate-response"]
    assert reply["result"]["task"]["taskId"] in words


async def test_the_result_is_what_the_call_would_have_answered(pair: Pair) -> None:
    here, _ = pair
    plain = (await here.call("steps", count=2))["result"]
    task = await here.task("steps", count=2)
    waited = (await here.ask("tasks/result", taskId=task["taskId"]))["result"]
    del waited["_meta"]
    assert waited == plain


async def test_a_tool_error_makes_the_task_failed_with_its_text_and_the_result_says_so(pair: Pair) -> None:
    here, _ = pair
    task = await here.task("complain", how="tool")
    ended = await here.until(task["taskId"], "completed", "failed")
    assert ended["status"] == "failed"
    assert "the printer is on fire" in ended["statusMessage"]
    assert (await here.ask("tasks/result", taskId=task["taskId"]))["result"]["isError"] is True
    listed = (await here.ask("tasks/list"))["result"]["tasks"]
    assert [one["status"] for one in listed if one["taskId"] == task["taskId"]] == ["failed"]


async def test_a_protocol_error_of_the_tool_is_the_answer_to_tasks_result(pair: Pair) -> None:
    here, _ = pair
    task = await here.task("complain", how="protocol")
    reply = await here.ask("tasks/result", taskId=task["taskId"])
    assert reply["error"] == {"code": -32050, "message": "no such printer", "data": {"printer": 7}}
    assert (await here.ask("tasks/get", taskId=task["taskId"]))["result"]["status"] == "failed"


async def test_a_cancelled_task_is_cancelled_in_the_reply_and_cannot_be_cancelled_again(pair: Pair) -> None:
    here, there = pair
    task = await here.task("stay")
    assert (await there.ask("tasks/cancel", taskId=task["taskId"]))["result"]["status"] == "cancelled"
    assert (await here.ask("tasks/cancel", taskId=task["taskId"]))["error"]["code"] == -32602
    assert "error" in await here.ask("tasks/result", taskId=task["taskId"])


async def test_a_required_tool_without_a_task_and_a_task_of_an_ordinary_tool_are_not_found(pair: Pair) -> None:
    here, _ = pair
    assert (await here.call("strict"))["error"]["code"] == -32601
    reply = await here.ask("tools/call", name="hello", arguments={"name": "Ada"}, task={})
    assert reply["error"]["code"] == -32601
    task = await here.task("strict")
    assert (await here.until(task["taskId"], "completed"))["pollInterval"] == 200


@pytest.mark.parametrize("method", ["tasks/get", "tasks/result", "tasks/cancel"])
@pytest.mark.parametrize("task_id", ["unknown", "", "x" * 300, "../../etc", "\u0000"])
async def test_an_unknown_id_is_refused_by_every_method(pair: Pair, method: str, task_id: str) -> None:
    here, _ = pair
    assert (await here.ask(method, taskId=task_id))["error"]["code"] == -32602


@pytest.mark.parametrize("method", ["tasks/get", "tasks/result", "tasks/cancel"])
@pytest.mark.parametrize("params", [{}, {"taskId": 7}, {"taskId": None}, {"taskId": ["a"]}])
async def test_malformed_parameters_are_refused(pair: Pair, method: str, params: dict[str, Any]) -> None:
    here, _ = pair
    assert (await here.ask(method, **params))["error"]["code"] == -32602


@pytest.mark.parametrize("ttl", [-1, 0, "60000", [], {}, True, 1e300, float(2**60)])
@pytest.mark.requirement("ttl-2025")
async def test_a_ttl_that_cannot_be_is_refused_and_nothing_starts(pair: Pair, redis: Redis, ttl: Any) -> None:
    here, _ = pair
    reply = await here.ask("tools/call", name="steps", arguments={"count": 1}, task={"ttl": ttl})
    assert reply["error"]["code"] == -32602
    assert await redis.zcard(Keys().live) == 0


@pytest.mark.requirement("ttl-2025", "ttl-covers-life")
async def test_a_ttl_counts_from_the_end_on_and_is_cut_to_the_limit(pair: Pair, redis: Redis) -> None:
    here, _ = pair
    short = await here.task("steps", ttl=60_000, count=1)
    huge = await here.task("steps", ttl=2**50, count=1)
    assert (short["ttl"], huge["ttl"]) == (None, None)  # no limit while the task lives
    for task, kept in ((short, 60_000), (huge, 30 * 24 * 3600 * 1000)):
        ended = await here.until(task["taskId"], "completed")
        assert kept <= ended["ttl"] <= kept + 10_000
        assert await redis.pttl(Keys().record(task["taskId"])) <= kept


@pytest.mark.requirement("list-2025")
async def test_a_session_lists_only_its_own_tasks_in_pages(pair: Pair) -> None:
    here, there = pair
    other = await open_session(here.http, here.url)
    ids = [(await here.task("steps", count=1))["taskId"] for _ in range(60)]
    first = (await there.ask("tasks/list"))["result"]
    second = (await here.ask("tasks/list", cursor=first["nextCursor"]))["result"]
    assert [task["taskId"] for task in first["tasks"] + second["tasks"]] == ids[::-1]
    assert "nextCursor" not in second
    assert (await other.ask("tasks/list"))["result"]["tasks"] == []
    assert (await other.ask("tasks/list", cursor=first["nextCursor"]))["error"]["code"] == -32602


@pytest.mark.parametrize("cursor", ["forged", "x" * 5000, 7, {}])
async def test_a_forged_cursor_is_refused(pair: Pair, cursor: Any) -> None:
    here, _ = pair
    assert (await here.ask("tasks/list", cursor=cursor))["error"]["code"] == -32602


async def test_questions_are_asked_on_the_result_stream_and_answered_through_any_replica(pair: Pair) -> None:
    here, there = pair
    task = await here.task("ask")
    assert (await here.until(task["taskId"], "input_required"))["status"] == "input_required"
    async with here.streaming("tasks/result", taskId=task["taskId"]) as frames:
        questions = [await next_message(frames), await next_message(frames)]
        assert {question["method"] for question in questions} == {"elicitation/create"}
        for question in questions:
            assert question["params"]["_meta"][RELATED] == {"taskId": task["taskId"]}
        by_text = {question["params"]["message"]: question for question in questions}
        await there.reply(by_text["Second?"], {"action": "accept", "content": {"name": "Bob"}})
        await here.reply(by_text["First?"], {"action": "accept", "content": {"name": "Ada"}})
        assert (await next_message(frames))["result"]["content"][0]["text"] == "Ada Bob"


@pytest.mark.requirement("result-2025")
async def test_a_result_stream_that_was_disconnected_may_be_requested_again(pair: Pair) -> None:
    here, there = pair
    task = await here.task("ask")
    async with here.streaming("tasks/result", taskId=task["taskId"]) as frames:
        first = [await next_message(frames), await next_message(frames)]
    async with there.streaming("tasks/result", taskId=task["taskId"]) as frames:
        second = [await next_message(frames), await next_message(frames)]
        assert {question["id"] for question in first}.isdisjoint(question["id"] for question in second)
        for question in second:
            await there.reply(question, {"action": "decline"})
        assert (await next_message(frames))["result"]["content"][0]["text"] == "decline decline"


async def test_an_answer_that_breaks_the_schema_is_refused_and_the_question_stays(pair: Pair) -> None:
    here, _ = pair
    task = await here.task("ask")
    async with here.streaming("tasks/result", taskId=task["taskId"]) as frames:
        question = await next_message(frames)
        refused = await here.reply(question, {"action": "accept", "content": {"name": 7}})
        assert refused.status_code == 400
        assert "still open" in refused.json()["error"]["message"]
        assert (await here.reply(question, {"action": "decline"})).status_code == 202
        other = await next_message(frames)
        await here.reply(other, {"action": "cancel"})
        assert sorted((await next_message(frames))["result"]["content"][0]["text"].split()) == ["cancel", "decline"]


@pytest.mark.requirement("status-notifications", "progress-2025")
async def test_status_and_progress_are_sent_on_the_sessions_own_stream_of_any_replica(pair: Pair) -> None:
    here, there = pair
    async with there.listening() as frames:
        task = await here.task("steps", token="original", count=3)
        seen = []
        with anyio.fail_after(30):
            while True:
                message = await next_message(frames)
                seen.append(message)
                if message["params"].get("status") == "completed":
                    break
    statuses = [one["params"] for one in seen if one["method"] == "notifications/tasks/status"]
    progress = [one["params"] for one in seen if one["method"] == "notifications/progress"]
    assert statuses[-1]["taskId"] == task["taskId"]
    assert all(RELATED not in one.get("_meta", {}) for one in statuses)
    assert progress[-1]["progressToken"] == "original"
    assert progress[-1]["_meta"][RELATED] == {"taskId": task["taskId"]}
    assert progress[-1]["message"].startswith("step 3 of 3")
    values = [one["progress"] for one in progress]
    assert values == sorted(set(values))


async def test_a_task_goes_on_when_its_session_ends_and_stays_readable_by_its_id(pair: Pair) -> None:
    here, there = pair
    task = await here.task("steps", count=2)
    await here.http.delete(here.url, headers=here.headers())
    again = await open_session(here.http, there.url)
    assert (await again.until(task["taskId"], "completed"))["status"] == "completed"


async def test_arguments_that_cannot_work_make_no_task(pair: Pair, redis: Redis) -> None:
    here, _ = pair
    reply = await here.ask("tools/call", name="steps", arguments={"count": "many"}, task={})
    assert reply["error"]["code"] == -32602
    assert await redis.zcard(Keys().live) == 0


@pytest.mark.requirement("earlier-revisions")
async def test_an_earlier_revision_knows_no_tasks(pair: Pair) -> None:
    here, _ = pair
    earlier = await open_session(here.http, here.url, revision="2025-06-18")
    assert (await earlier.ask("tasks/list"))["error"]["code"] == -32601
    reply = await earlier.ask("tools/call", name="plain", arguments={"text": "abc"}, task={"ttl": 1})
    assert reply["result"]["content"][0]["text"] == "ABC"


async def test_a_resolved_parameter_is_asked_for_on_the_result_stream(pair: Pair) -> None:
    here, _ = pair
    task = await here.task("greet_later")
    async with here.streaming("tasks/result", taskId=task["taskId"]) as frames:
        question = await next_message(frames)
        await here.reply(question, {"action": "accept", "content": {"name": "Ada"}})
        assert [frame.message for frame in await rest(frames)][-1]["result"]["content"][0]["text"] == "Hello, Ada!"
