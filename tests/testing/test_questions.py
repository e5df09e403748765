"""Everything a tool can ask, by every class of client: forms, links, models, roots, and what the SDK's tools ask by."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from mcp.server.mcpserver import Resolve
from mcp.shared.exceptions import MCPError
from mcp_types import (
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
    SamplingMessage,
    TextContent,
    Tool,
    ToolChoice,
    ToolUseContent,
)

from taskmill.server import Context, TaskServer
from taskmill.testing import ClientKind, TestBed
from tests.support.sample_server import Person, who

Ctx = Context[Any, Any]
mcp: TaskServer[Any] = TaskServer("Questions")
ASKED = [ClientKind.TASKS_2026, ClientKind.TASKS_2025, ClientKind.HELD]
"""Those that are asked by the protocol; the fourth is asked by the words of its tools: its user by its model, and the
model itself, which is what `sample` asks."""


@mcp.tool(task=True)
async def ask_everything(ctx: Ctx) -> list[str]:
    """Asks all there is to ask at once."""
    form, link, model, roots = await asyncio.gather(
        ctx.elicit("Who?", Person),
        ctx.elicit_url("Sign in, please.", "https://bank.example/login"),
        ctx.sample("Tell me a joke."),
        ctx.list_roots(),
    )
    name = form.data.name if form.action == "accept" else form.action
    words = getattr(model.content, "text", "")
    return [name, link.action, words, *(str(root.uri) for root in roots.roots)]


@mcp.tool(task=True)
async def greet_whoever(person: Annotated[Person, Resolve(who)]) -> str:
    """Needs its person, by a parameter that the SDK resolves."""
    return f"Hello, {person.name}!"


@mcp.tool(task=True)
async def ask_in_rounds(ctx: Ctx) -> str | InputRequiredResult:
    """Asks by what it returns, twice."""
    known = ctx.request_state or ""
    answer = (ctx.input_responses or {}).get("who")
    if isinstance(answer, ElicitResult) and answer.content:
        known += f"{answer.content['name']} "
    if known.count(" ") == 2:
        return known.strip()
    form = ElicitRequestFormParams(message=f"Who, after {known}?", requested_schema=Person.model_json_schema())
    return InputRequiredResult(input_requests={"who": ElicitRequest(params=form)}, request_state=known)


@mcp.tool(task=True)
async def ask_model_with_tools(ctx: Ctx) -> list[str]:
    """Lets its client's model call a tool."""
    asked = SamplingMessage(role="user", content=TextContent(type="text", text="Umbrella?"))
    weather = Tool(name="weather", input_schema={"type": "object"})
    said = await ctx.sample(asked, tools=[weather], tool_choice=ToolChoice(mode="required"))
    return [call.name for call in said.content_as_list if isinstance(call, ToolUseContent)]


def answer(question: dict[str, Any]) -> Any:
    """The answer of a test to any question."""
    params = question.get("params") or {}
    match question["method"], params:
        case "sampling/createMessage", {"tools": [tool]}:
            call = {"type": "tool_use", "id": "call-1", "name": tool["name"], "input": {}}
            return {"role": "assistant", "content": [call], "model": "test", "stopReason": "toolUse"}
        case "sampling/createMessage", _:
            return "Knock knock."
        case "roots/list", _:
            return ["file:///srv"]
        case _, {"mode": "url"}:
            return "accept"
        case _:
            return {"name": "Ann" if "Ann" not in params["message"] else "Bob"}


@pytest.fixture
async def bed(redis_url: str) -> AsyncIterator[TestBed]:
    async with TestBed(mcp, redis_url=redis_url) as made:
        yield made


@pytest.mark.parametrize("kind", list(ClientKind))
async def test_forms_links_models_and_roots_are_asked_for_at_once(bed: TestBed, kind: ClientKind) -> None:
    async with bed.client(kind, answers=answer) as client:
        called = await client.call("ask_everything")

    assert called.result is not None
    assert called.result.structured_content == {"result": ["Ann", "accept", "Knock knock.", "file:///srv"]}
    asked = sorted((one["method"], (one.get("params") or {}).get("mode", "")) for one in called.questions)
    assert asked == [
        ("elicitation/create", "form"),
        ("elicitation/create", "url"),
        ("roots/list", ""),
        ("sampling/createMessage", ""),
    ]


@pytest.mark.parametrize("kind", ASKED)
async def test_a_model_may_answer_with_a_call_of_a_tool(bed: TestBed, kind: ClientKind) -> None:
    async with bed.client(kind, answers=answer) as client:
        called = await client.call("ask_model_with_tools")

    assert called.result is not None
    assert called.result.structured_content == {"result": ["weather"]}


@pytest.mark.parametrize("kind", list(ClientKind))
async def test_a_resolved_parameter_is_asked_for_once(bed: TestBed, kind: ClientKind) -> None:
    async with bed.client(kind, answers=answer) as client:
        called = await client.call("greet_whoever")

    assert (called.text, len(called.questions)) == ("Hello, Ann!", 1)


@pytest.mark.parametrize("kind", list(ClientKind))
async def test_what_a_tool_asks_by_its_return_is_asked_round_by_round(bed: TestBed, kind: ClientKind) -> None:
    async with bed.client(kind, answers=answer) as client:
        called = await client.call("ask_in_rounds")

    assert (called.text, len(called.questions)) == ("Ann Bob", 2)


async def test_a_conversation_with_tools_is_refused_where_there_is_no_room_for_it(bed: TestBed) -> None:
    async with bed.client(ClientKind.HANDED_OFF) as client:
        with pytest.raises(MCPError, match=r"did not declare the sampling\.tools capability"):
            await client.call("ask_model_with_tools")
