"""For a first reader: what cannot work is refused as early as it can be seen, with words that say what to do."""

import asyncio
from typing import Any

import pytest
import structlog
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel

from taskmill.cli.serving.worker import warn_of_unused_queues
from taskmill.engine.errors import AttemptEnded, PolicyError
from taskmill.engine.outcome import Failed
from taskmill.server import Context, TaskConfig, TaskServer
from taskmill.server.protocol.tasks_client import update_task
from taskmill.testing import TestBed
from taskmill.testing.tasks2026_client import Tasks2026Client
from taskmill.workers.settings import WorkerSettings

mcp: TaskServer[Any] = TaskServer("Gate")
Ctx = Context[Any, Any]
said: asyncio.Queue[BaseException] = asyncio.Queue()
"""What a tool's leftovers were told when they spoke after its end."""
left: set[asyncio.Task[None]] = set()


class Person(BaseModel):
    name: str


@mcp.tool(task=True)
async def greet(ctx: Ctx) -> str:
    answer = await ctx.elicit("Who are you?", Person)
    return f"Hello, {answer.data.name}!" if answer.action == "accept" else answer.action


@mcp.tool(task=True)
async def parse(ctx: Ctx) -> str:
    return str(await ctx.step("read", lambda: {"a set"}))


@mcp.tool(task=True)
async def leave(ctx: Ctx) -> str:
    async def speak_late() -> None:
        await asyncio.sleep(0)
        while True:
            try:
                await ctx.emit("one more thing")
            except AttemptEnded as exc:
                return said.put_nowait(exc)

    left.add(asyncio.create_task(speak_late()))
    return "gone"


async def test_an_answer_that_breaks_the_schema_is_told_to_the_client_and_the_task_still_waits(redis_url: str) -> None:
    async with TestBed(mcp, redis_url=redis_url) as bed, bed.client() as client:
        assert isinstance(client, Tasks2026Client)
        task_id = await client.begin("greet")
        await bed.until(task_id, "input_required")
        with pytest.raises(MCPError, match="The answer to 'input-1' breaks its schema at name"):
            await update_task(client.session, task_id, {"input-1": {"action": "accept", "content": {"name": 7}}})

        assert list((await bed.until(task_id, "input_required")).questions) == ["input-1"]
        await update_task(client.session, task_id, {"input-1": {"action": "accept", "content": {"name": "Ann"}}})
        assert (await client.follow(task_id)).text == "Hello, Ann!"


async def test_a_step_whose_result_is_not_json_ends_the_task_and_names_the_step(redis_url: str) -> None:
    async with TestBed(mcp, redis_url=redis_url) as bed, bed.client() as client:
        assert isinstance(client, Tasks2026Client)
        ended = await bed.until(await client.begin("parse"), "failed")

    assert isinstance(ended.outcome, Failed)
    assert ended.outcome.text.startswith("The result of step 'read' cannot be written as JSON: make it of dict, list,")


async def test_an_emit_after_the_end_is_refused_and_says_why(redis_url: str) -> None:
    async with TestBed(mcp, redis_url=redis_url) as bed, bed.client() as client:
        assert (await client.call("leave")).text == "gone"
        told = await asyncio.wait_for(said.get(), 30)

    assert str(told) == (
        "This attempt has ended: its tool returned, or it was stopped. Emit and attach before the tool returns."
    )


@pytest.mark.parametrize(
    ("policy", "advice"),
    [
        ({"deadline": 5, "timeout": 60}, "deadline=5 is shorter than timeout=60 of one attempt"),
        ({"memory_limit": 2**30}, "memory_limit needs isolation='process'"),
        ({"concurrency_key": "{nobody}"}, "concurrency_key"),
        ({"isolation": "process"}, "isolation='process' needs a function at the top level of a module"),
    ],
    ids=["times", "memory", "key", "process"],
)
def test_a_policy_that_contradicts_itself_or_its_tool_is_refused_at_import_and_names_the_tool(
    policy: dict[str, Any], advice: str
) -> None:
    """A process could neither import such a tool by its name nor be handed it."""
    with pytest.raises(PolicyError) as refused:

        @mcp.tool(task=TaskConfig(**policy))
        async def sail(to: str) -> str:
            return to

    assert str(refused.value).startswith("Tool 'sail': ")
    assert advice in str(refused.value)


def test_a_queue_that_cannot_be_is_refused_and_an_unknown_one_is_warned_of() -> None:
    with pytest.raises(PolicyError, match=r"queue must be 1 to 64 letters, digits, '_', '\.' or '-'"):
        TaskConfig(queue="mail, urgent")

    with structlog.testing.capture_logs() as log:
        warn_of_unused_queues(WorkerSettings(queue="defualt"), mcp)

    assert [(line["event"], line["queue"], line["queues_of_the_tools"]) for line in log] == [
        ("queue.unused", "defualt", ["default"])
    ]
