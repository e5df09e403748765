"""The task server of these tests: one tool for each thing that is asked of it."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

from mcp.server.mcpserver import Elicit, Resolve
from mcp.server.mcpserver.exceptions import ToolError
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
    ToolResultContent,
    ToolUseContent,
)
from pydantic import BaseModel

from taskmill.server import Context, TaskConfig, TaskServer
from taskmill.store.settings import StoreSettings


class Person(BaseModel):
    name: str


class Report(BaseModel):
    steps: int


async def who(ctx: Context[Any, Any]) -> Elicit[Person]:
    return Elicit("Who are you?", Person)


def make_server(settings: StoreSettings, **options: Any) -> TaskServer[Any]:
    """A fresh server, as every replica and worker has its own."""
    mcp: TaskServer[Any] = TaskServer("Tests", store=settings, **options)

    @mcp.tool()
    def hello(name: str) -> str:
        """Greets."""
        return f"Hello, {name}!"

    @mcp.tool(task=True)
    async def steps(count: int, ctx: Context[Any, Any]) -> Report:
        """Reports progress and returns a structured result."""
        for step in range(count):
            await ctx.report_progress(step + 1, count, f"step {step + 1} of {count}")
        return Report(steps=count)

    @mcp.tool(task=True)
    async def stay(ctx: Context[Any, Any]) -> str:
        """Says one thing and then never ends by itself."""
        await ctx.report_progress(1, 4, "settling in")
        await asyncio.Event().wait()
        return "never"

    @mcp.tool(task=True)
    async def until_exists(path: str) -> str:
        """Ends when a file is there."""
        while not Path(path).exists():
            await asyncio.sleep(0.02)
        return "there"

    @mcp.tool(task=True)
    def plain(text: str, ctx: Context[Any, Any]) -> str:
        """A plain function."""
        ctx.report_progress(1, 1, "done")
        return text.upper()

    @mcp.tool(task=True)
    async def complain(how: str) -> str:
        """Fails in one of the ways a tool can."""
        if how == "tool":
            raise ToolError("the printer is on fire")
        if how == "unwritable":
            raise MCPError(-32050, "no such printer", {"a set", "is not JSON"})
        if how == "protocol":
            raise MCPError(-32050, "no such printer", {"printer": 7})
        raise RuntimeError("the secret word is swordfish")

    @mcp.tool(task=TaskConfig(mode="required", retention=60, poll_interval=0.2))
    async def strict() -> str:
        """Runs only as a task."""
        return "fine"

    @mcp.tool(task=True)
    async def greet_later(person: Annotated[Person, Resolve(who)]) -> str:
        """Must know its person before there is a task."""
        return f"Hello, {person.name}!"

    @mcp.tool(task=True)
    async def greet_late(ctx: Context[Any, Any]) -> str:
        """Asks for a name on the way."""
        answer = await ctx.elicit("Who are you?", Person)
        return f"Hello, {answer.data.name}!" if answer.action == "accept" else answer.action

    @mcp.tool(task=True)
    async def ask(ctx: Context[Any, Any]) -> str:
        """Asks two questions at once."""
        first, second = await asyncio.gather(ctx.elicit("First?", Person), ctx.elicit("Second?", Person))
        return " ".join(one.data.name if one.action == "accept" else one.action for one in (first, second))

    @mcp.tool(task=True)
    async def ask_link(ctx: Context[Any, Any]) -> str:
        """Asks its user to open a link."""
        return (await ctx.elicit_url("Sign in, please.", "https://bank.example/login")).action

    @mcp.tool(task=True)
    async def ask_model(ctx: Context[Any, Any]) -> str:
        """Asks its client's model."""
        answer = await ctx.sample("Tell me a joke.", max_tokens=50, temperature=0.5, system_prompt="Be brief.")
        assert isinstance(answer.content, TextContent)
        return f"{answer.model}: {answer.content.text}"

    @mcp.tool(task=True)
    async def ask_model_with_tools(ctx: Context[Any, Any]) -> list[str]:
        """Lets its client's model call a tool, and tells it the result."""
        weather = Tool(name="weather", input_schema={"type": "object"})
        asked = SamplingMessage(role="user", content=TextContent(type="text", text="Umbrella?"))
        first = await ctx.sample(asked, tools=[weather])
        calls = [one for one in first.content_as_list if isinstance(one, ToolUseContent)]
        results = [
            ToolResultContent(tool_use_id=call.id, content=[TextContent(type="text", text="rain")]) for call in calls
        ]
        told = [asked, SamplingMessage(role="assistant", content=first.content)]
        told.append(SamplingMessage(role="user", content=list(results)))
        second = await ctx.sample(told, tools=[weather], tool_choice=ToolChoice(mode="none"))
        return [call.name for call in calls] + [getattr(one, "text", "") for one in second.content_as_list]

    @mcp.tool(task=True)
    async def ask_roots(ctx: Context[Any, Any]) -> list[str]:
        """Asks where its client works."""
        return [str(root.uri) for root in (await ctx.list_roots()).roots]

    @mcp.tool(task=True)
    async def ask_in_rounds(ctx: Context[Any, Any]) -> str | InputRequiredResult:
        """Asks by what it returns, twice, as the SDK's tools may."""
        known = ctx.request_state or ""
        answer = (ctx.input_responses or {}).get("who")
        if isinstance(answer, ElicitResult) and answer.content:
            known += f"{answer.content['name']} "
        if known.count(" ") == 2:
            return known.strip()
        schema = Person.model_json_schema()
        form = ElicitRequestFormParams(message=f"Who, after {known or 'nobody'}?", requested_schema=schema)
        return InputRequiredResult(input_requests={"who": ElicitRequest(params=form)}, request_state=known)

    @mcp.tool(task=True)
    async def ask_everything(ctx: Context[Any, Any]) -> list[str]:
        """Asks all there is to ask at once."""
        form, link, model, roots = await asyncio.gather(
            ctx.elicit("Who?", Person),
            ctx.elicit_url("Sign in, please.", "https://bank.example/login"),
            ctx.sample("Tell me a joke."),
            ctx.list_roots(),
        )
        return [form.action, link.action, model.model, str(len(roots.roots))]

    @mcp.tool(task=True)
    async def facts(ctx: Context[Any, Any]) -> dict[str, Any]:
        """What the context says."""
        return {
            "task_id": ctx.task_id,
            "idempotency_key": ctx.idempotency_key,
            "attempt": ctx.attempt,
            "fence": ctx.fence,
            "cancelled": ctx.cancelled,
            "lifespan": ctx.lifespan,
        }

    @mcp.tool(task=True)
    async def mumble(ctx: Context[Any, Any]) -> str:
        """Reports what cannot be written down."""
        await ctx.report_progress(float("nan"), float("inf"), "half a pair: \ud800")
        await asyncio.Event().wait()
        return "never"

    @mcp.tool(task=True)
    async def big(size: int) -> str:
        """Returns much."""
        return "x" * size

    return mcp
