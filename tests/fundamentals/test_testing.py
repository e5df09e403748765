"""For a first reader: how a tool is tested, alone and in the whole engine."""

from typing import Any

from pydantic import BaseModel

from taskmill.server import Context, TaskServer
from taskmill.testing import Eager, TestBed, in_order

mcp: TaskServer[Any] = TaskServer("Shop")


class Size(BaseModel):
    size: str


@mcp.tool(task=True)
async def order(item: str, ctx: Context[Any, Any]) -> str:
    await ctx.report_progress(1, 2, "asking")
    answer = await ctx.elicit("Which size?", Size)
    return f"one {answer.data.size} {item}" if answer.action == "accept" else "nothing"


async def test_just_the_tool() -> None:
    async with Eager(mcp) as eager:
        run = await eager.call("order", {"item": "box"}, answers=[{"size": "XL"}])
    assert (run.text, run.messages, len(run.questions)) == ("one XL box", ["asking"], 1)


async def test_the_whole_engine(redis_url: str) -> None:
    async with (
        TestBed(mcp, redis_url=redis_url) as bed,
        bed.client("tasks-2026", answers=[{"size": "XL"}]) as client,
    ):
        called = await client.call("order", item="box")
        assert called.task_id is not None
        timeline = await bed.timeline(called.task_id)

    assert called.text == "one XL box"
    assert in_order(
        timeline,
        ("running", "running"),
        ("input_required", "waiting for an answer"),
        ("completed", "completed"),
    )
