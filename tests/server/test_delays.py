"""A call with a delay: its task starts later, whoever asked and in whichever way; what makes no sense is refused."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
from fastmcp import FastMCP
from redis.asyncio import Redis

from taskmill.server import TaskConfig, TaskServer
from taskmill.store.settings import StoreSettings
from taskmill.testing import TestBed
from tests.server.api_client import ApiClient
from tests.support.replica import Json, Rpc

DELAY, NOT_BEFORE = "io.taskmill/delay", "io.taskmill/notBefore"


def make_server(settings: StoreSettings) -> TaskServer[Any]:
    mcp: TaskServer[Any] = TaskServer("Later", store=settings)

    @mcp.tool(task=True)
    async def remind(text: str) -> str:
        """Say it."""
        return text

    @mcp.tool(task=TaskConfig(deadline=timedelta(minutes=1)))
    async def urgent() -> str:
        """Do it within a minute."""
        return "done"

    @mcp.tool()
    async def now() -> str:
        """Run in the foreground."""
        return "now"

    return mcp


RPC_SERVER = make_server


async def call(rpc: Rpc, tool: str, meta: Json, **arguments: Any) -> Json:
    return await rpc.ask("tools/call", {"name": tool, "arguments": arguments, "_meta": meta}, name=tool)


def in_(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


async def test_a_delayed_call_is_a_task_that_says_when_it_starts_and_then_runs(rpc: Rpc) -> None:
    hour = (await call(rpc, "remind", {NOT_BEFORE: in_(3600)}, text="tea"))["result"]
    soon = (await call(rpc, "remind", {DELAY: 0.2}, text="tea"))["result"]

    assert hour["status"] == "working"
    at = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:")
    assert hour["statusMessage"].startswith(f"starts in 60 min, at {at}"), hour
    assert (await rpc.get(hour["taskId"]))["result"]["statusMessage"].startswith("starts in 60 min")
    ended = await rpc.done(soon["taskId"])
    assert ended["result"]["content"][0]["text"] == "tea"
    assert (await rpc.get(hour["taskId"]))["result"]["status"] == "working"
    await rpc.ask("tasks/cancel", {"taskId": hour["taskId"]}, name=hour["taskId"])
    assert (await rpc.get(hour["taskId"]))["result"]["status"] == "cancelled"


async def test_a_delay_that_makes_no_sense_is_refused_with_what_to_do(rpc: Rpc) -> None:
    number = f"_meta.{DELAY} must be a number of seconds from 0 to 2,592,000 (30 days)."
    for tool, meta, words in (
        ("remind", {DELAY: "soon"}, number),
        ("remind", {DELAY: 1e9}, number),
        ("remind", {NOT_BEFORE: "2027-01-31T08:00:00"}, f"_meta.{NOT_BEFORE} must say its time zone: write"),
        ("remind", {DELAY: 1, NOT_BEFORE: "2027-01-31T08:00:00Z"}, "Give either"),
        ("urgent", {DELAY: 61}, "tasks of this tool must have ended 60 s after their creation"),
        ("now", {DELAY: 1}, "now does not run as a task, so its call cannot be delayed: leave out the delay."),
    ):
        error = (await call(rpc, tool, meta, **({"text": "tea"} if tool == "remind" else {})))["error"]

        assert error["code"] == -32602
        assert words in error["message"]


async def test_a_rerun_over_the_api_may_start_later_and_shows_when(rpc: Rpc) -> None:
    api = ApiClient(rpc)
    first = (await call(rpc, "remind", {DELAY: 3600}, text="tea"))["result"]["taskId"]
    shown = (await api.get(f"/api/tasks/{first}")).json()
    assert (shown["status"], shown["ahead"], shown["started_at"]) == ("pending", None, None)
    assert_in_an_hour(shown["due_at"])
    assert (await api.post(f"/api/tasks/{first}/cancel")).json()["due_at"] is None

    status, again = await api.send(f"/api/tasks/{first}/rerun", {"not_before": in_(3600)}, None)

    assert (status, again["rerun_of"], again["status"]) == (201, first, "pending")
    assert_in_an_hour(again["due_at"])
    naive = await api.send(f"/api/tasks/{first}/rerun", {"not_before": "2027-01-31T08:00:00"}, None)
    assert (naive[0], naive[1]["error"]["message"][:36]) == (400, "not_before must say its time zone: w")


async def test_a_delayed_call_of_a_fastmcp_server_starts_later_too(redis: Redis, redis_url: str) -> None:
    mcp: FastMCP[Any] = FastMCP("Theirs")

    @mcp.tool(task=True)
    async def remind(text: str) -> str:
        return text

    @mcp.tool
    async def now() -> str:
        return "now"

    async with TestBed(mcp, redis_url=redis_url) as bed, httpx2.AsyncClient() as http:
        rpc = Rpc(http, bed.url)
        later = (await call(rpc, "remind", {DELAY: 3600}, text="tea"))["result"]
        refused = (await call(rpc, "now", {DELAY: 1}))["error"]

        assert later["statusMessage"].startswith("starts in 60 min")
        assert refused["message"].startswith("now does not run as a task, so its call cannot be delayed")


def assert_in_an_hour(shown: str) -> None:
    assert abs(datetime.fromisoformat(shown) - datetime.now(UTC) - timedelta(hours=1)) < timedelta(minutes=1)
