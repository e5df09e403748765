"""For a first reader: what an author can rely on when the tool behind a task is real - questions, steps, failures."""

import asyncio
from typing import Any

import pytest
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel

from taskmill.engine.errors import PolicyError
from taskmill.server import Context, Retry, TaskConfig, TaskServer
from taskmill.testing import TestBed

mcp: TaskServer[Any] = TaskServer("Yard")
Ctx = Context[Any, Any]
ran: list[str] = []
"""What really happened, in order."""


class Confirm(BaseModel):
    really: bool


async def effect(name: str) -> str:
    ran.append(name)
    return f"{name} done"


@mcp.tool(task=TaskConfig(park_after=0))
async def scrap(ship: str, ctx: Ctx) -> str:
    answer = await ctx.elicit(f"Scrap {ship}?", Confirm)
    return f"scrapped at attempt {ctx.attempt}" if answer.action == "accept" and answer.data.really else "spared"


@mcp.tool(task=TaskConfig(retries=1, backoff=0))
async def refit(ctx: Ctx) -> str:
    hull = await ctx.step("hull", effect, "hull")
    if ctx.attempt == 1:
        raise RuntimeError("the crane broke")
    paint = await ctx.step("paint", effect, "paint")
    return f"{hull}, {paint}"


@mcp.tool(task=TaskConfig(retries=2, backoff=0))
async def count_rivets(ctx: Ctx) -> int:
    ctx.state["counted"] = ctx.state.get("counted", 0) + 100
    await ctx.save()
    if ctx.state["counted"] < 300:
        raise Retry(after=0)
    return int(ctx.state["counted"])


@mcp.tool(task=TaskConfig(retries=3, backoff=0, retry_on=ConnectionError))
async def order_steel(ctx: Ctx) -> str:
    raise ConnectionError("busy") if ctx.attempt < 3 else ValueError("no such steel")


@mcp.tool(task=TaskConfig(deadline=0.3))
async def wait_for_wind() -> str:
    await asyncio.Event().wait()
    return "sailed"


async def test_a_question_is_answered_and_the_tool_need_not_stay_in_memory(redis_url: str) -> None:
    async with TestBed(mcp, redis_url=redis_url) as bed, bed.client(answers=[{"really": True}]) as client:
        called = await client.call("scrap", ship="Temeraire")

    assert called.text == "scrapped at attempt 2"


async def test_a_step_runs_once_whatever_happens_behind_it(redis_url: str) -> None:
    ran.clear()
    async with TestBed(mcp, redis_url=redis_url) as bed, bed.client() as client:
        called = await client.call("refit")

    assert called.text == "hull done, paint done"
    assert ran == ["hull", "paint"]


async def test_state_is_there_again_at_the_next_attempt(redis_url: str) -> None:
    async with TestBed(mcp, redis_url=redis_url) as bed, bed.client() as client:
        called = await client.call("count_rivets")

    assert called.text == "300"


async def test_only_the_errors_that_may_pass_are_tried_again_and_the_rest_is_a_dead_letter(redis_url: str) -> None:
    async with TestBed(mcp, redis_url=redis_url) as bed, bed.client() as client:
        called = await client.call("order_steel")
        (letter,) = (await bed.store.dead_letters()).views

    assert "no such steel" not in called.text
    assert (letter.record.id, letter.record.failures, letter.record.reason) == (called.task_id, 2, "crashed")


async def test_a_deadline_ends_a_task_whatever_it_waits_for(redis_url: str) -> None:
    async with TestBed(mcp, redis_url=redis_url) as bed, bed.client() as client:
        with pytest.raises(MCPError, match=r"wait_for_wind had not ended at its deadline, 0\.3 s\."):
            await client.call("wait_for_wind")


def test_a_policy_that_contradicts_itself_is_refused_when_the_module_is_imported() -> None:
    with pytest.raises(PolicyError, match="Tool 'sail': deadline=5 is shorter than timeout=60 of one attempt"):

        @mcp.tool(task=TaskConfig(timeout=60, deadline=5))
        async def sail() -> str:
            return "never declared"
