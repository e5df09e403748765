"""`ctx.sample` with functions: the loop and its ends; by the client's model, by the server's, by an author's."""

import asyncio
import threading
from typing import Any

import pytest
from mcp.server.mcpserver.exceptions import ToolError
from mcp.shared.exceptions import MCPError
from mcp_types import CreateMessageRequestParams, CreateMessageResultWithTools, TextContent, ToolUseContent
from pydantic import BaseModel

from taskmill.engine.errors import SettingsError
from taskmill.server import Context, Retry, SampleTool, SamplingFailed, TaskConfig, TaskServer
from taskmill.testing import ClientKind, Eager, TestBed
from tests.support.scripted_model import ScriptedModel, call, say

Ctx = Context[Any, Any]
ASKED = [ClientKind.TASKS_2026, ClientKind.TASKS_2025, ClientKind.HELD]
VENDORS = ["anthropic/claude-test", "openai/gpt-test"]


class Weather(BaseModel):
    city: str
    degrees: int


def server(**options: Any) -> TaskServer[Any]:
    mcp: TaskServer[Any] = TaskServer("Agents", **options)

    @mcp.tool(task=True)
    async def add_up(ctx: Ctx, max_steps: int = 5, tool_concurrency: int = 1) -> list[str]:
        """Has a model add numbers."""

        def add(a: int, b: int) -> int:
            """Add two numbers."""
            return a + b

        async def fail(how: str) -> str:
            """Fail."""
            if how == "told":
                raise ToolError("the abacus is broken")
            raise RuntimeError("the secret word is swordfish")

        end = await ctx.sample(
            "Add.", tools=[add, fail], system="You add.", max_steps=max_steps, tool_concurrency=tool_concurrency
        )
        results = [one for message in end.messages for one in message.content_as_list if one.type == "tool_result"]
        return [end.text, str(end.steps), *(getattr(one.content[0], "text", "") for one in results)]

    @mcp.tool(task=True)
    async def weather(ctx: Ctx) -> Weather:
        """Has a model give a result of a type."""
        return (await ctx.sample("How is it?", result_type=Weather)).result

    @mcp.tool(task=True)
    async def joke(ctx: Ctx) -> str:
        """Has a model say something."""
        said = await ctx.sample("Tell me a joke.")
        assert isinstance(said.content, TextContent)
        return said.content.text

    @mcp.tool(task=True)
    async def by_hand(ctx: Ctx) -> list[str]:
        """Drives the loop itself."""
        made = []

        def note(word: str) -> str:
            """Note a word."""
            made.append(word)
            return "noted"

        step = await ctx.sample_step("Go.", tools=[note])
        while not step.is_final:
            step = await ctx.sample_step(step.messages, tools=[note])
        return [*made, step.text]

    @mcp.tool(task=True)
    async def asks_in_its_tools(ctx: Ctx) -> str:
        """A tool of the model asks the user, and has a step."""

        async def ask_user(what: str) -> str:
            """Ask the user."""
            answer = await ctx.elicit(what, str)
            return await ctx.step("shout", str.upper, answer.data)

        return (await ctx.sample("Go.", tools=[SampleTool(ask_user, step=False)])).text

    return mcp


def answers_of(*moves: list[dict[str, Any]]) -> Any:
    """What a test's client answers, by how far the conversation is."""

    def answer(question: dict[str, Any]) -> Any:
        if question["method"] != "sampling/createMessage":
            return {"value": "blue"}
        number = sum(message["role"] == "assistant" for message in question["params"]["messages"])
        blocks = [{"id": f"call-{number}-{at}", **one} for at, one in enumerate(moves[number])]
        content = [one if one["type"] == "tool_use" else {"type": "text", "text": one["text"]} for one in blocks]
        return {"role": "assistant", "content": content, "model": "theirs", "stopReason": "endTurn"}

    return answer


@pytest.fixture
def bed_of(redis_url: str) -> Any:
    return lambda mcp, **settings: TestBed(mcp, redis_url=redis_url, **settings)


ADDING = [
    [call("add", a=1, b=2), call("add", a="x", b=1)],
    [call("fail", how="told"), call("fail", how="else")],
    say("end"),
]
ADDED = [
    "end",
    "3",
    "3",
    "Wrong arguments of add: a: Input should be a valid integer, unable to parse string as an integer",
    "the abacus is broken",
    "Error executing tool fail",
]


@pytest.mark.parametrize("kind", ASKED)
async def test_the_clients_model_is_given_the_results_of_its_calls_until_it_makes_none(bed_of: Any, kind: Any) -> None:
    """sampling/createMessage of 2025-11-25 with tools; a crash's own text is kept from the model."""
    async with bed_of(server()) as bed, bed.client(kind, answers=answers_of(*ADDING)) as client:
        done = await client.call("add_up")
    assert done.result.structured_content == {"result": ADDED}
    first = done.questions[0]["params"]
    assert [tool["name"] for tool in first["tools"]] == ["add", "fail"]
    assert first["tools"][0]["description"] == "Add two numbers."
    assert first["systemPrompt"] == "You add."


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("concurrency", [1, 0, 2])
async def test_the_servers_model_does_the_same_by_both_apis(
    bed_of: Any, monkeypatch: pytest.MonkeyPatch, vendor: str, concurrency: int
) -> None:
    with ScriptedModel(ADDING) as model:
        for name, value in model.environment.items():
            monkeypatch.setenv(name, value)
        mcp = server(sampling=vendor, sampling_from="server")
        async with bed_of(mcp) as bed, bed.client() as client:
            done = await client.call("add_up", tool_concurrency=concurrency)
    assert done.result.structured_content == {"result": ADDED}
    assert (model.calls, done.questions) == ([0, 1, 2], [])
    assert model.requests[0]["model"] == vendor.partition("/")[2]


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_result_of_a_type_is_asked_for_until_it_fits(
    bed_of: Any, monkeypatch: pytest.MonkeyPatch, vendor: str
) -> None:
    moves = [[call("final_answer", city="Rome")], say("It is warm."), [call("final_answer", city="Rome", degrees=31)]]
    with ScriptedModel(moves) as model:
        for name, value in model.environment.items():
            monkeypatch.setenv(name, value)
        async with bed_of(server(sampling=vendor, sampling_from="server")) as bed, bed.client() as client:
            done = await client.call("weather")
    assert done.result.structured_content == {"city": "Rome", "degrees": 31}
    assert "degrees: Field required" in str(model.requests[1]["messages"][-1])
    assert "Give your answer by a call of final_answer." in str(model.requests[2]["messages"][-1])


async def test_a_loop_that_does_not_end_says_how_to_allow_more(bed_of: Any) -> None:
    answers = answers_of(*[[call("add", a=1, b=2)]] * 9)
    async with bed_of(server()) as bed, bed.client(answers=answers) as client:
        with pytest.raises(MCPError, match=r"not come to an end after 2 calls \(max_steps=2\)") as told:
            await client.call("add_up", max_steps=2)
    assert told.value.data == {"reason": "sampling_max_steps"}


async def test_an_author_may_drive_the_loop(bed_of: Any) -> None:
    answers = answers_of([call("note", word="a")], [call("note", word="b")], say("bye"))
    async with bed_of(server()) as bed, bed.client(answers=answers) as client:
        done = await client.call("by_hand")
    assert done.result.structured_content == {"result": ["a", "b", "bye"]}


async def test_a_models_tool_may_have_questions_and_steps_where_it_is_no_step_itself(bed_of: Any) -> None:
    answers = answers_of([call("ask_user", what="Colour?")], say("fine"))
    async with bed_of(server()) as bed, bed.client(answers=answers) as client:
        done = await client.call("asks_in_its_tools")
    assert done.text == "fine"
    assert "BLUE" in str(done.questions[-1]["params"]["messages"][-1])


async def test_a_client_without_a_model_is_told_both_ways(bed_of: Any) -> None:
    """A host without tasks, whose own model cannot have a conversation with tools by a follow-up tool."""
    async with bed_of(server()) as bed, bed.client(ClientKind.HANDED_OFF) as client:
        with pytest.raises(MCPError, match=r"sampling\.tools capability\. Use a client .* TASKMILL_SAMPLING_MODEL"):
            await client.call("add_up")


async def test_an_authors_function_is_asked_where_the_client_has_no_model_of_its_own(bed_of: Any) -> None:
    """Not the model of the host by a follow-up tool, which is asked where the server has none."""
    asked: list[CreateMessageRequestParams] = []

    async def handler(request: CreateMessageRequestParams) -> str:
        asked.append(request)
        return "Knock knock."

    async with bed_of(server(sampling=handler)) as bed:
        async with bed.client(ClientKind.HANDED_OFF) as client:
            done = await client.call("joke")
        async with bed.client(answers=["Who is there?"]) as client:
            by_client = await client.call("joke")
    assert (done.text, done.questions, len(asked)) == ("Knock knock.", [], 1)
    assert by_client.text == "Who is there?"


async def test_tool_calls_of_one_answer_run_at_once_as_many_as_allowed(bed_of: Any) -> None:
    running, most, lock = 0, 0, threading.Lock()
    barrier = threading.Barrier(2)
    mcp: TaskServer[Any] = TaskServer("Agents")

    @mcp.tool(task=True)
    async def fan_out(ctx: Ctx) -> str:
        def work(number: int) -> int:
            """Work."""
            nonlocal running, most
            with lock:
                running, most = running + 1, max(most, running + 1)
            barrier.wait(20)
            with lock:
                running -= 1
            return number

        return (await ctx.sample("Go.", tools=[work], tool_concurrency=2)).text

    answers = answers_of([call("work", number=number) for number in range(4)], say("end"))
    async with bed_of(mcp) as bed, bed.client(answers=answers) as client:
        done = await client.call("fan_out")
    assert (done.text, most) == ("end", 2)


async def test_a_result_that_is_too_large_to_keep_is_an_error_for_the_model(bed_of: Any) -> None:
    mcp: TaskServer[Any] = TaskServer("Agents")

    @mcp.tool(task=True)
    async def read(ctx: Ctx) -> str:
        def read_all() -> str:
            """Read."""
            return "x" * 5000

        return (await ctx.sample("Go.", tools=[read_all])).text

    answers = answers_of([call("read_all")], say("too much"))
    async with bed_of(mcp, max_step=2000) as bed, bed.client(answers=answers) as client:
        done = await client.call("read")
    assert done.text == "too much"
    assert "The result of read_all is too large to be kept" in str(done.questions[-1])


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_retry_pays_for_no_answer_twice(bed_of: Any, monkeypatch: pytest.MonkeyPatch, vendor: str) -> None:
    mcp: TaskServer[Any] = TaskServer("Agents", sampling=vendor, sampling_from="server")
    ran: list[str] = []
    both_asked = asyncio.Barrier(2)

    @mcp.tool(task=TaskConfig(retries=2, backoff=0.01))
    async def agent(ctx: Ctx) -> str:
        async def press(which: str) -> str:
            """Press."""
            ran.append(f"{which} {ctx.attempt}")
            if which == "second" and ctx.attempt == 1:
                await both_asked.wait()
                raise Retry("again")
            return which

        async with asyncio.TaskGroup() as group:  # concurrent steps are found by their name and arguments
            both = [group.create_task(ctx.sample(words, tools=[press])) for words in ("A", "B")]
        if ctx.attempt == 2:
            raise OSError("after all")
        return " ".join(one.result().text for one in both)

    with ScriptedModel([[call("press", which="first")], [call("press", which="second")], say("end")]) as model:
        for name, value in model.environment.items():
            monkeypatch.setenv(name, value)
        async with bed_of(mcp) as bed, bed.client() as client:
            done = await client.call("agent")
    assert done.text == "end end"
    assert sorted(model.calls) == [0, 0, 1, 1, 2, 2]
    assert sorted(one for one in ran if one.startswith("first")) == ["first 1", "first 1"]


async def test_without_a_client_an_eager_tool_has_the_test_for_its_model() -> None:
    mcp = server()
    async with Eager(mcp) as eager:
        done = await eager.call("add_up", answers=answers_of(*ADDING))
    assert done.result.structured_content == {"result": ADDED}


async def test_tools_of_both_kinds_and_wrong_settings_are_refused_where_they_are_written() -> None:
    with pytest.raises(SettingsError, match="anthropic/NAME or openai/NAME"):
        TaskServer("A", sampling="claude")
    with pytest.raises(SettingsError, match='"client" or "server"'):
        TaskServer("A", sampling_from="me")  # type: ignore[arg-type]  # that is what is tested


async def test_an_answer_that_is_cut_off_in_a_tool_call_runs_nothing() -> None:
    mcp: TaskServer[Any] = TaskServer("Agents")
    ran = []

    @mcp.tool(task=True)
    async def agent(ctx: Ctx) -> str:
        def write(text: str) -> str:
            """Write."""
            ran.append(text)
            return "written"

        try:
            return (await ctx.sample("Go.", tools=[write], max_tokens=7)).text
        except SamplingFailed as exc:
            return f"{exc.reason}: {exc}"

    cut = CreateMessageResultWithTools(
        role="assistant",
        content=[ToolUseContent(id="1", name="write", input={"text": "half of a"})],
        model="m",
        stop_reason="maxTokens",
    )
    async with Eager(mcp) as eager:
        done = await eager.call("agent", answers=[cut])
    assert done.text == "cut_off: The model's answer was cut off in a tool call at max_tokens=7. Allow more."
    assert ran == []
