"""Requests whose parameters or headers are wrong are refused in words that name what to change."""

from typing import Any

import pytest

from tests.server.session_client import open_session
from tests.support.replica import Json, Rpc, messages

WRONG: dict[str, tuple[str, Json, str]] = {
    "a null progress token": (
        "tools/call",
        {"name": "strict", "_meta": {"progressToken": None}},
        "params._meta.progressToken is null and should be a string or an integer",
    ),
    "arguments that are a list": (
        "tools/call",
        {"name": "strict", "arguments": []},
        "params.arguments is a list and should be an object",
    ),
    "a call without a name": ("tools/call", {}, "params.name is missing"),
    "a prompt's argument that is no text": (
        "prompts/get",
        {"name": "x", "arguments": {"a": 1}},
        "params.arguments.a is a number and should be a string",
    ),
}
OF_TASKS_2025: dict[str, tuple[str, Json, str]] = {
    "a time to live of 0": (
        "tools/call",
        {"name": "strict", "task": {"ttl": 0}},
        "params.task.ttl is a number and should be greater than 0",
    ),
    "a time to live that is text": (
        "tools/call",
        {"name": "strict", "task": {"ttl": "secret"}},
        "params.task.ttl is a string and should be an integer",
    ),
    "no time to live": ("tools/call", {"name": "strict", "task": []}, "params.task is a list and should be an object"),
    "a cursor that is a number": ("tasks/list", {"cursor": 3}, "params.cursor is a number and should be a string"),
    "no id": ("tasks/result", {}, "params.taskId is missing"),
}


def refusal(problem: str) -> Json:
    field = problem.partition(" ")[0]
    return {"code": -32602, "message": f"Invalid request parameters: {problem}.", "data": {"fields": [field]}}


@pytest.mark.parametrize(("method", "params", "problem"), WRONG.values(), ids=WRONG)
async def test_wrong_parameters_of_2026_are_named(idle_rpc: Rpc, method: str, params: Json, problem: str) -> None:
    reply = await idle_rpc.post(method, params, name=params.get("name"))

    assert messages(reply)[0]["error"] == refusal(problem)


@pytest.mark.parametrize(
    ("method", "params", "problem"), {**WRONG, **OF_TASKS_2025}.values(), ids={**WRONG, **OF_TASKS_2025}
)
async def test_wrong_parameters_of_2025_are_named(idle_rpc: Rpc, method: str, params: Json, problem: str) -> None:
    session = await open_session(idle_rpc.http, idle_rpc.url)

    assert (await session.ask(method, **params))["error"] == refusal(problem)


async def test_a_wrong_value_is_not_sent_back(idle_rpc: Rpc) -> None:
    reply = await idle_rpc.post("tools/call", {"name": "strict", "arguments": "a-secret"}, name="strict")

    assert "params.arguments is a string" in reply.text
    assert "a-secret" not in reply.text


@pytest.mark.parametrize(
    ("method", "headers", "status", "words"),
    [
        ("POST", {"accept": "application/json"}, 406, "Accept must name application/json and text/event-stream."),
        ("GET", {}, 405, "takes POST only"),
        ("PUT", {"mcp-protocol-version": "2025-11-25"}, 405, "takes GET, POST and DELETE"),
    ],
)
async def test_a_refusal_of_a_method_or_a_format_has_words(
    idle_rpc: Rpc, method: str, headers: dict[str, Any], status: int, words: str
) -> None:
    request = idle_rpc.request("tools/list", {}, **headers)

    reply = await idle_rpc.http.request(method, idle_rpc.url, **request)

    assert reply.status_code == status
    assert words in reply.json()["error"]["message"]
    assert (status == 405) == ("allow" in reply.headers)
