"""Tools that run by themselves: what is refused at the start, what runs as whom, and what operators see of it."""

from datetime import timedelta
from typing import Any

import anyio
import httpx2
import pytest
from fastmcp import FastMCP
from redis.asyncio import Redis

from taskmill.adapters.fastmcp import TaskConfig as FastMCPTaskConfig
from taskmill.engine.errors import PolicyError
from taskmill.engine.principal import SCHEDULE
from taskmill.server import Context, Schedule, TaskConfig, TaskServer
from taskmill.server.api.operations import Operations
from taskmill.store.tasks.tasks import OPERATOR
from taskmill.testing import TestBed
from tests.support.results import text_of_task

EACH_SECOND: dict[str, Any] = {"schedule": timedelta(seconds=1), "schedule_arguments": {"what": "tick"}}


def ours() -> TaskServer[Any]:
    mcp: TaskServer[Any] = TaskServer("Ours")

    @mcp.tool(task=TaskConfig(**EACH_SECOND, scopes=["admin"], concurrency_key="{what}"))
    async def say(what: str, ctx: Context[Any, Any]) -> str:
        """Say who runs it."""
        return f"{what} for {ctx.principal}"

    @mcp.tool(task=TaskConfig(schedule=Schedule("0 7 * * *", "Europe/Berlin", missed="run_once")))
    async def report() -> str:
        """Report each morning."""
        return "reported"

    return mcp


def theirs() -> FastMCP[Any]:
    mcp: FastMCP[Any] = FastMCP("Theirs")

    @mcp.tool(task=FastMCPTaskConfig(**EACH_SECOND))
    async def say(what: str) -> str:
        return f"{what} for {SCHEDULE}"

    return mcp


@pytest.mark.parametrize("make", [ours, theirs])
async def test_a_tool_runs_by_itself_as_no_callers_task_and_operators_see_it(
    redis: Redis, redis_url: str, make: Any
) -> None:
    async with TestBed(make(), redis_url=redis_url, schedules=True) as bed, httpx2.AsyncClient() as http:
        with anyio.fail_after(30):
            while not (views := (await bed.store.page(OPERATOR)).views):
                await anyio.sleep(0.02)
        task_id = views[-1].record.id
        view = await bed.until(task_id, within=20)
        rows = {row["name"]: row for row in await Operations(bed.store, "").schedules()}
        refused = await http.get(bed.url.removesuffix("/mcp") + "/api/schedules")
        as_caller = await http.get(bed.url.removesuffix("/mcp") + f"/api/tasks/{task_id}")

    assert text_of_task(view) == "tick for schedule"
    assert (view.record.principal, view.record.tool) == (SCHEDULE, "say")
    said = rows["say"]
    assert (said["schedule"], said["missed"], said["workers"], said["paused"]) == ("every 1 s", "skip", 1, None)
    assert said["last_at"] < said["next_at"]
    if make is ours:
        report = rows["report"]
        assert (report["schedule"], report["timezone"]) == ("0 7 * * *", "Europe/Berlin")
        assert (report["last_at"], report["last_task"], report["last_outcome"]) == (None, None, None)
    assert refused.status_code == 403
    assert as_caller.status_code == 404, "no caller has it, though its id can be worked out"


async def test_a_schedule_that_cannot_work_is_refused_when_the_tool_is_declared() -> None:
    mcp: TaskServer[Any] = TaskServer("Refused")

    async def read(path: str, lines: int = 1) -> str:
        return path

    for config, words in (
        ({"schedule": "61 * * * *"}, "is no cron line"),
        ({"schedule": 60}, "Tool 'read': its schedule runs it without the argument 'path': write schedule_arguments="),
        ({"schedule": 60, "schedule_arguments": {"path": "a", "lines": "many"}}, "do not fit: lines should be a valid"),
    ):
        with pytest.raises(PolicyError, match=words):
            mcp.add_tool(read, task=TaskConfig(**config))  # type: ignore[arg-type]
    assert dict(mcp.policies()) == {}


async def test_a_test_bed_leaves_schedules_alone_unless_it_is_asked(redis: Redis, redis_url: str) -> None:
    async with TestBed(ours(), redis_url=redis_url) as bed:
        assert await bed.store.schedules() == []
