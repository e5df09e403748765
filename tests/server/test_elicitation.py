"""Everything a task can ask its client - forms, links, its model, its roots - and which answers are taken."""

import json
from typing import Any

import pytest

from tests.support.replica import TASKS, Json, Rpc

ABLE = {
    "extensions": {TASKS: {}},
    "elicitation": {"form": {}, "url": {}},
    "sampling": {"tools": {}},
    "roots": {},
}
JOKE = {"role": "assistant", "content": {"type": "text", "text": "Knock knock."}, "model": "small-1"}
CALL = {
    "role": "assistant",
    "content": [{"type": "tool_use", "id": "call-1", "name": "weather", "input": {}}],
    "model": "small-1",
    "stopReason": "toolUse",
}
SAID = {"role": "assistant", "content": [{"type": "text", "text": "Take one."}], "model": "small-1"}
ROOTS = {"roots": [{"uri": "file:///home/ann", "name": "home"}]}


def able(rpc: Rpc) -> Rpc:
    """The same client, with every capability."""
    return Rpc(rpc.http, rpc.url, ABLE)


async def question(rpc: Rpc, task_id: str, key: str = "input-1") -> Json:
    """The request that is open under a key."""
    while True:
        task = await rpc.until(task_id, "input_required", "failed", "completed")
        assert task["status"] == "input_required", task
        if key in task["inputRequests"]:
            asked: Json = task["inputRequests"][key]
            return asked


async def answer(rpc: Rpc, task_id: str, **answers: Any) -> Json:
    """tasks/update; the reply."""
    given = {key.replace("_", "-"): value for key, value in answers.items()}
    return await rpc.ask("tasks/update", {"taskId": task_id, "inputResponses": given}, name=task_id)


def text(task: Json) -> str:
    return str(task["result"]["content"][0]["text"])


LINK = {
    "method": "elicitation/create",
    "params": {"mode": "url", "message": "Sign in, please.", "url": "https://bank.example/login"},
}


async def test_a_link_is_shown_and_the_users_word_is_the_answer(rpc: Rpc) -> None:
    """2026-07-28 changelog, 11: `elicitationId` was removed."""
    rpc = able(rpc)
    task_id = await rpc.task("ask_link")
    assert await question(rpc, task_id) == LINK

    await answer(rpc, task_id, input_1={"action": "accept"})

    assert text(await rpc.done(task_id)) == "accept"


async def test_the_clients_model_is_asked_with_everything_the_tool_says(rpc: Rpc) -> None:
    rpc = able(rpc)
    task_id = await rpc.task("ask_model")
    assert await question(rpc, task_id) == {
        "method": "sampling/createMessage",
        "params": {
            "messages": [{"role": "user", "content": {"type": "text", "text": "Tell me a joke."}}],
            "systemPrompt": "Be brief.",
            "temperature": 0.5,
            "maxTokens": 50,
        },
    }

    await answer(rpc, task_id, input_1=JOKE)

    assert text(await rpc.done(task_id)) == "small-1: Knock knock."


async def test_the_clients_model_may_call_tools_and_is_told_their_results(rpc: Rpc) -> None:
    rpc = able(rpc)
    task_id = await rpc.task("ask_model_with_tools")
    first = await question(rpc, task_id)
    assert [tool["name"] for tool in first["params"]["tools"]] == ["weather"]
    await answer(rpc, task_id, input_1=CALL)
    second = await question(rpc, task_id, "input-2")
    assert second["params"]["toolChoice"] == {"mode": "none"}
    assert second["params"]["messages"][2]["content"][0]["toolUseId"] == "call-1"

    await answer(rpc, task_id, input_2=SAID)

    done = await rpc.done(task_id)
    assert done["result"]["structuredContent"] == {"result": ["weather", "Take one."]}


async def test_roots_are_asked_for(rpc: Rpc) -> None:
    rpc = able(rpc)
    task_id = await rpc.task("ask_roots")
    assert (await question(rpc, task_id))["method"] == "roots/list"

    await answer(rpc, task_id, input_1=ROOTS)

    assert (await rpc.done(task_id))["result"]["structuredContent"] == {"result": ["file:///home/ann"]}


async def test_all_kinds_of_questions_may_be_open_at_once_and_answered_in_any_order(rpc: Rpc) -> None:
    rpc = able(rpc)
    task_id = await rpc.task("ask_everything")
    await question(rpc, task_id, "input-4")

    await answer(rpc, task_id, input_4=ROOTS, input_2={"action": "decline"})
    await answer(rpc, task_id, input_3=JOKE)
    await answer(rpc, task_id, input_1={"action": "accept", "content": {"name": "Ann"}})

    done = await rpc.done(task_id)
    assert done["result"]["structuredContent"] == {"result": ["accept", "decline", "small-1", "1"]}


async def test_a_tool_that_asks_by_what_it_returns_asks_as_a_task_too(rpc: Rpc) -> None:
    """The SDK's `InputRequiredResult`, round after round, with its `requestState`."""
    task_id = await rpc.task("ask_in_rounds")
    await question(rpc, task_id)
    await answer(rpc, task_id, input_1={"action": "accept", "content": {"name": "Ann"}})
    second = await question(rpc, task_id, "input-2")
    assert second["params"]["message"] == "Who, after Ann ?"

    await answer(rpc, task_id, input_2={"action": "accept", "content": {"name": "Bob"}})

    assert text(await rpc.done(task_id)) == "Ann Bob"


@pytest.mark.parametrize(
    ("tool", "given"),
    [
        ("ask_link", {"action": "maybe"}),
        ("ask_model", {"role": "assistant", "model": "small-1"}),
        ("ask_model", SAID),
        ("ask_model_with_tools", {"content": []}),
        ("ask_roots", {"roots": [{"name": "no uri"}]}),
        ("ask_roots", JOKE),
    ],
)
async def test_an_answer_of_another_shape_is_refused_and_the_question_stays_open(
    rpc: Rpc, tool: str, given: Json
) -> None:
    rpc = able(rpc)
    task_id = await rpc.task(tool)
    asked = await question(rpc, task_id)

    refused = await answer(rpc, task_id, input_1=given)

    assert refused["error"]["code"] == -32602
    assert refused["error"]["message"].startswith("The answer to 'input-1' is not a result of ")
    assert refused["error"]["message"].endswith("The question is still open.")
    assert await question(rpc, task_id) == asked


@pytest.mark.parametrize(
    ("tool", "declared", "needed"),
    [
        ("ask", {}, {"elicitation": {}}),
        ("ask", {"elicitation": {"url": {}}}, {"elicitation": {}}),
        ("ask_link", {"elicitation": {}}, {"elicitation": {"url": {}}}),
        ("ask_model", {"elicitation": {}}, {"sampling": {}}),
        ("ask_model_with_tools", {"sampling": {}}, {"sampling": {"tools": {}}}),
        ("ask_roots", {"sampling": {}}, {"roots": {}}),
        ("ask_in_rounds", {}, {"elicitation": {}}),
    ],
    ids=lambda value: value if isinstance(value, str) else json.dumps(value),
)
async def test_a_client_that_cannot_be_asked_gets_the_missing_capability(
    rpc: Rpc, tool: str, declared: Json, needed: Json
) -> None:
    """-32021 with data.requiredCapabilities."""
    lacking = Rpc(rpc.http, rpc.url, {"extensions": {TASKS: {}}, **declared})
    done = await lacking.done(await lacking.task(tool))

    assert done["status"] == "failed"
    assert (done["error"]["code"], done["error"]["data"]) == (-32021, {"requiredCapabilities": needed})
