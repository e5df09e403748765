"""A model's loop inside a tool, one idea a test."""

from typing import Any

from mcp_types import CreateMessageResultWithTools, TextContent, ToolUseContent

from taskmill.server import Context, TaskServer
from taskmill.testing import Eager


def calls(name: str, **arguments: Any) -> CreateMessageResultWithTools:
    block = ToolUseContent(id="1", name=name, input=arguments)
    return CreateMessageResultWithTools(role="assistant", content=[block], model="m", stop_reason="toolUse")


def says(text: str) -> CreateMessageResultWithTools:
    block = TextContent(type="text", text=text)
    return CreateMessageResultWithTools(role="assistant", content=[block], model="m", stop_reason="endTurn")


async def test_a_models_calls_run_and_it_reads_their_results() -> None:
    mcp: TaskServer[Any] = TaskServer("Agents")

    @mcp.tool(task=True)
    async def add_up(ctx: Context[Any, Any]) -> str:
        def add(a: int, b: int) -> int:
            """Add two numbers."""
            return a + b

        return (await ctx.sample("What is 1 + 2?", tools=[add])).text

    async with Eager(mcp) as eager:
        run = await eager.call("add_up", answers=[calls("add", a=1, b=2), says("It is 3.")])
    assert run.text == "It is 3."


async def test_a_later_attempt_is_given_what_an_earlier_one_was_answered() -> None:
    asked: list[int] = []

    async def model(_request: object) -> str:
        asked.append(1)
        return "new"

    mcp: TaskServer[Any] = TaskServer("Agents", sampling=model, sampling_from="server")

    @mcp.tool(task=True)
    async def say(ctx: Context[Any, Any]) -> str:
        return str(getattr((await ctx.sample("Say.")).content, "text", ""))

    kept = {"id": "1", "answer": {"role": "assistant", "content": {"type": "text", "text": "old"}, "model": "m"}}
    async with Eager(mcp) as eager:
        run = await eager.call("say", attempt=2, recorded={"sample 1: model": kept})
    assert (run.text, asked) == ("old", [])
