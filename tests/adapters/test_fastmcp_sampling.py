"""`CurrentTask().sample`: a model's loop in tools of a FastMCP server."""

from collections.abc import Callable
from typing import Any

import pytest
from fastmcp import Context, FastMCP
from fastmcp.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp_types import SamplingMessage, TextContent

from taskmill.adapters.fastmcp import CurrentTask, Task, TaskConfig, Tasks
from taskmill.server import SamplingFailed
from taskmill.testing import ClientKind, TestBed
from tests.support.scripted_model import ScriptedModel, call, say

BedOf = Callable[..., TestBed]


def server(**options: Any) -> FastMCP[Any]:
    mcp: FastMCP[Any] = FastMCP("Agents")
    mcp.add_extension(Tasks(**options))

    @mcp.tool(task=True)
    async def agent(task: Task = CurrentTask()) -> str:  # noqa: B008 - FastMCP's way
        async def look(where: str) -> str:
            if where == "nowhere":
                raise ToolError("nothing is there")
            return f"a cat in the {where}"

        end = await task.sample("Look.", tools=[look], system="You look.")
        return f"{end.text} after {end.steps}: {[str(one.content) for one in end.messages if one.role == 'user'][1:]}"

    @mcp.tool
    async def joke(task: Task = CurrentTask()) -> str:  # noqa: B008
        said = await task.sample("Tell me a joke.")
        return str(getattr(said.content, "text", ""))

    @mcp.tool(task=True)
    async def by_session(ctx: Context) -> str:
        asked = SamplingMessage(role="user", content=TextContent(type="text", text="Tell me a joke."))
        said = await ctx.session.create_message([asked], max_tokens=50)
        return str(getattr(said.content, "text", ""))

    return mcp


MOVES = [[call("look", where="kitchen")], [call("look", where="nowhere")], say("found")]


@pytest.mark.parametrize("vendor", ["anthropic/claude-test", "openai/gpt-test"])
async def test_the_servers_model_looks_until_it_has_found(
    bed_of: BedOf, monkeypatch: pytest.MonkeyPatch, vendor: str
) -> None:
    with ScriptedModel(MOVES) as model:
        for name, value in model.environment.items():
            monkeypatch.setenv(name, value)
        mcp = server(sampling=vendor, sampling_from="server")
        async with bed_of(mcp) as bed, bed.client() as client:
            done = await client.call("agent")
    assert done.text.startswith("found after 3: ")
    assert "a cat in the kitchen" in done.text
    assert "nothing is there" in done.text
    assert model.calls == [0, 1, 2]


@pytest.mark.parametrize("kind", [ClientKind.TASKS_2026, ClientKind.TASKS_2025, ClientKind.HELD])
async def test_the_clients_model_is_asked_where_it_has_one(bed_of: BedOf, kind: ClientKind) -> None:
    async def never(_request: object) -> str:
        raise AssertionError("the client has a model")

    def answer(question: dict[str, Any]) -> Any:
        number = sum(message["role"] == "assistant" for message in question["params"]["messages"])
        content = [{"id": f"call-{number}", **one} for one in MOVES[number]]
        return {"role": "assistant", "content": content, "model": "theirs"}

    async with bed_of(server(sampling=never)) as bed, bed.client(kind, answers=answer) as client:
        done = await client.call("agent")
    assert done.text.startswith("found after 3: ")
    assert len(done.questions) == 3


async def test_the_sessions_own_request_is_a_question_of_the_task(bed_of: BedOf) -> None:
    async with bed_of(server()) as bed, bed.client(answers=["Knock knock."]) as client:
        assert (await client.call("by_session")).text == "Knock knock."


async def test_a_tool_that_is_no_task_asks_the_same_models(bed_of: BedOf) -> None:
    async def own(_request: object) -> str:
        return "mine"

    mcp = server(sampling=own)
    inner: FastMCP[Any] = FastMCP("Inner")

    @inner.tool
    async def joke(task: Task = CurrentTask()) -> str:  # noqa: B008
        return str(getattr((await task.sample("Tell me a joke.")).content, "text", ""))

    mcp.mount(inner, namespace="inner")
    async with bed_of(mcp) as bed:
        async with bed.client(ClientKind.HELD, answers=["theirs"]) as client:
            assert (await client.call("joke")).text == "theirs"
        async with bed.client(ClientKind.TASKS_2026) as client:
            assert (await client.call("joke")).text == "mine"
            assert (await client.call("inner_joke")).text == "mine"


async def test_a_failure_that_may_pass_is_tried_again_and_else_told_in_words(bed_of: BedOf) -> None:
    fails = [True, True, True]

    async def busy(_request: object) -> str:
        if fails:
            fails.pop()
            raise SamplingFailed("The model is busy.", reason="overloaded", retryable=True)
        return "at last"

    mcp = server(sampling=busy, sampling_from="server")

    @mcp.tool(task=TaskConfig(retries=1, backoff=0.01))
    async def patient(task: Task = CurrentTask()) -> str:  # noqa: B008
        return str(getattr((await task.sample("Go.")).content, "text", ""))

    async with bed_of(mcp) as bed, bed.client() as client:
        with pytest.raises(MCPError, match=r"The model is busy\.") as told:
            await client.call("patient")
        assert told.value.data == {"reason": "sampling_overloaded", "retryable": True}
        assert (await client.call("patient")).text == "at last"
