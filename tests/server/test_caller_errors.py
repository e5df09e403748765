"""Requests that no client should send, found by hostile input: they are errors of the caller, and answered as such."""

import asyncio
import json
from typing import Any

import pytest
from anyio import fail_after
from redis.asyncio import Redis
from structlog.testing import capture_logs

from taskmill.server import Context, TaskConfig, TaskServer
from taskmill.server.settings import ServerSettings
from tests.server.session_client import open_session
from tests.support.replica import Json, Rpc, client_of, messages
from tests.support.tokens import guarded_options

HALF = "\ud800"
"""A lone surrogate, which JSON can write and UTF-8 cannot."""

ENDLESS = "~"
"""A placeholder for the value that `deep` makes."""


def deep(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


def with_prompt(settings: ServerSettings) -> TaskServer[Any]:
    mcp: TaskServer[Any] = TaskServer("Prompting", store=settings)

    @mcp.prompt()
    def poem(theme: str, ctx: Context[Any, Any]) -> str:
        """A poem."""
        return f"About {theme}"

    return mcp


def scoped(settings: ServerSettings) -> TaskServer[Any]:
    mcp: TaskServer[Any] = TaskServer("Scoped", store=settings, **guarded_options())

    @mcp.tool(task=TaskConfig(scopes=["rows:write"]))
    async def delete(table: str) -> str:
        """Needs a scope."""
        return table

    return mcp


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 20_000], ids=["lists", "objects"])
async def test_a_body_nested_too_deep_is_not_json_also_where_tools_need_scopes(
    redis: Redis, settings: ServerSettings, body: bytes
) -> None:
    async with client_of(scoped(settings)) as rpc:
        parts = rpc.request("tools/call", {"name": "delete"}, name="delete", authorization="Bearer issuer/app/ada")
        reply = await rpc.http.post(rpc.url, **{**parts, "content": body})
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, -32700)


@pytest.mark.requirement("unknown-id")
@pytest.mark.parametrize("task_id", [HALF, f"a{HALF}b", f"{HALF}:x"])
async def test_an_id_with_a_lone_surrogate_is_not_found(idle_rpc: Rpc, task_id: str) -> None:
    for method, more in (("tasks/get", {}), ("tasks/update", {"inputResponses": {HALF: {}}}), ("tasks/cancel", {})):
        asked = idle_rpc.request(method, {"taskId": task_id, **more})
        replies = messages(await idle_rpc.http.post(idle_rpc.url, **asked))
        assert [reply["error"]["code"] for reply in replies] == [-32602], method
    async with idle_rpc.listen(taskIds=[task_id]) as frames:
        assert (await anext(frames))["params"]["notifications"] == {}
    status = await idle_rpc.without_tasks().call("task_status", task_id=task_id)
    assert "There is no task" in status["result"]["content"][0]["text"]


async def test_a_reply_that_cannot_be_serialized_is_refused(idle_rpc: Rpc) -> None:
    session = await open_session(idle_rpc.http, idle_rpc.url)
    for request_id in ("x", f"a:{HALF}"):
        body = json.dumps({"jsonrpc": "2.0", "id": request_id, "result": {"action": HALF}})
        headers = session.headers(content_type="application/json")
        reply = await idle_rpc.http.post(idle_rpc.url, content=body, headers=headers)
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, -32602)


@pytest.mark.parametrize("depth", [300, 900])
async def test_a_reply_that_is_nested_too_deep_is_refused(idle_rpc: Rpc, depth: int) -> None:
    session = await open_session(idle_rpc.http, idle_rpc.url)
    body = json.dumps({"jsonrpc": "2.0", "id": "x", "result": {"content": ENDLESS}}).replace(
        f'"{ENDLESS}"', deep(depth)
    )
    reply = await idle_rpc.http.post(
        idle_rpc.url, content=body, headers=session.headers(content_type="application/json")
    )
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, -32602)


@pytest.mark.parametrize("depth", [300, 900])
async def test_a_request_with_deep_nesting_anywhere_is_answered(idle_rpc: Rpc, depth: int) -> None:
    session = await open_session(idle_rpc.http, idle_rpc.url)
    for method, params in (
        ("tools/call", {"name": "hello", "arguments": {"name": ENDLESS}}),
        ("tools/call", {"name": "steps", "arguments": {"count": ENDLESS}}),
        ("tools/call", {"name": "hello", "arguments": {"name": "a"}, "inputResponses": {"a": {"content": ENDLESS}}}),
        ("tools/call", {"name": "hello", "arguments": {"name": "a"}, "_meta": {"traceparent": ENDLESS}}),
        ("tasks/update", {"taskId": "a", "inputResponses": {"a": {"content": ENDLESS}}}),
        ("tasks/get", {"taskId": ENDLESS}),
    ):
        asked = idle_rpc.request(method, params)
        of_session = session.headers(content_type="application/json")
        for content, headers in (
            (asked["content"], asked["headers"]),
            (json.dumps(session.request(method, **params)), of_session),
        ):
            body = content.replace(f'"{ENDLESS}"', deep(depth))
            reply = await idle_rpc.http.post(idle_rpc.url, content=body, headers=headers)
            assert reply.status_code < 500, (method, params, reply.text)
            assert all(said["error"]["code"] != -32603 for said in messages(reply) if "error" in said), reply.text


async def test_a_notification_with_the_method_of_a_request_is_dropped_at_once(
    idle_rpc: Rpc, caplog: pytest.LogCaptureFixture
) -> None:
    """It must neither wait for a task nor change one: no one would receive the answer."""
    session = await open_session(idle_rpc.http, idle_rpc.url)
    task_id = (await session.task("stay"))["taskId"]
    with fail_after(30), capture_logs() as logged:
        for method, params in _without_an_answer(task_id):
            assert (await session.notify(method, **params)).status_code == 202, method
    assert [event for event in logged if event["log_level"] in ("error", "warning")] == []
    assert [record.getMessage() for record in caplog.records if record.levelname in ("ERROR", "WARNING")] == []
    listed = (await session.ask("tasks/list"))["result"]["tasks"]
    assert [(task["taskId"], task["status"]) for task in listed] == [(task_id, "working")]


def _without_an_answer(task_id: str) -> list[tuple[str, Json]]:
    return [
        ("tasks/result", {"taskId": task_id}),
        ("tasks/cancel", {"taskId": task_id}),
        ("tasks/get", {"taskId": "never seen"}),
        ("tasks/list", {"cursor": -1}),
        ("tools/call", {"name": "stay", "arguments": {}, "task": {}}),
        ("tools/call", {"name": "hello", "arguments": {}, "requestState": "made up"}),
    ]


@pytest.mark.parametrize("name", ["traceparent", "tracestate", "baggage"])
@pytest.mark.parametrize("value", [1, None, ["x"], {"a": 1}, float("nan")])
async def test_a_trace_that_is_no_text_is_ignored(idle_rpc: Rpc, name: str, value: Any) -> None:
    reply = await idle_rpc.ask(
        "tools/call", {"name": "hello", "arguments": {"name": "x"}, "_meta": {name: value}}, name="hello"
    )
    assert reply["result"]["content"][0]["text"] == "Hello, x!"


@pytest.mark.parametrize(
    ("name", "arguments", "why"),
    [
        ("nothing", {}, "Unknown prompt: nothing"),
        ("poem", {}, "Missing required arguments: {'theme'}"),
        ("poem", {"theme": "rain", "rhyme": "x"}, "The prompt poem has no argument 'rhyme': it has theme."),
    ],
)
async def test_a_prompt_or_argument_that_does_not_exist_is_the_callers_error(
    redis: Redis, settings: ServerSettings, name: str, arguments: Json, why: str
) -> None:
    async with client_of(with_prompt(settings)) as rpc:
        reply = await rpc.ask("prompts/get", {"name": name, "arguments": arguments}, name=name)
        assert reply["error"] == {"code": -32602, "message": why}
        good = await rpc.ask("prompts/get", {"name": "poem", "arguments": {"theme": "rain"}}, name="poem")
        assert good["result"]["messages"][0]["content"]["text"] == "About rain"


async def test_a_session_stream_that_is_closed_at_once_leaves_no_task_running(idle_rpc: Rpc) -> None:
    session = await open_session(idle_rpc.http, idle_rpc.url)
    for _ in range(3):
        await session.task("stay")
    before = _followers()
    for _ in range(20):
        async with session.listening():
            pass
    with fail_after(30):
        while _followers() > before:
            await asyncio.sleep(0.01)


def _followers() -> int:
    return sum(
        task.get_name() in ("taskmill.notifications", "taskmill.tail", "taskmill.stream")
        for task in asyncio.all_tasks()
    )
