"""Tools whose queues are on two Redis servers, over the protocol: one server, one client, wherever a task is."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import anyio
import httpx2
import pytest
from redis.asyncio import Redis

from taskmill.engine.artifact import ARTIFACT_URI, OUTPUT_URI
from taskmill.engine.errors import SettingsError
from taskmill.server import Context, TaskConfig, TaskServer
from taskmill.server.settings import ServerSettings
from taskmill.store.formats.keys import Keys
from taskmill.workers.settings import WorkerSettings
from tests.server.session_client import Session, open_session, rest
from tests.support.redis_server import PrivateRedis
from tests.support.replica import Rpc, client_of, serving, working


@pytest.fixture(scope="module")
def reports() -> Iterator[PrivateRedis]:
    """The Redis of shard `reports`."""
    with PrivateRedis(appendonly="yes", appendfsync="no") as server:
        yield server


@pytest.fixture
async def sharded(redis: Redis, settings: ServerSettings, reports: PrivateRedis) -> ServerSettings:
    async with Redis.from_url(reports.url) as other:
        await other.flushall()
    return settings.model_copy(update={"shards": {"reports": reports.url}, "command_timeout": 1.0})


async def content(text: str) -> AsyncIterator[bytes]:
    yield text.encode()


def make_server(settings: ServerSettings) -> TaskServer[Any]:
    mcp: TaskServer[Any] = TaskServer("Shards", store=settings)

    @mcp.tool(task=True)
    async def here(text: str) -> str:
        """On the Redis at home."""
        return text

    @mcp.tool(task=TaskConfig(queue="reports"))
    async def there(text: str, ctx: Context[Any, Any]) -> str:
        """On the other one."""
        await ctx.report_progress(1, 2, "half")
        await ctx.emit(f"{text} in part")
        await ctx.attach(content(text), name="report.txt")
        return text

    async def count(ctx: Context[Any, Any]) -> int:
        """How often the session has called it."""
        calls = await ctx.get_state("calls", 0) + 1
        await ctx.set_state("calls", calls)
        return int(calls)

    for queue in ("default", "reports"):
        mcp.add_tool(count, f"count_{queue}", task=TaskConfig(queue=queue))
    mcp.add_tool(count, "count_at_once")

    return mcp


@pytest.fixture
async def pair(sharded: ServerSettings) -> AsyncIterator[tuple[Rpc, Session, Session]]:
    """A client of 2026, and a session of 2025 at two replicas; a worker for each shard."""
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(serving(make_server(sharded).http_app())) + "/mcp" for _ in range(2)]
        for queue in ("default", "reports"):
            await stack.enter_async_context(working(make_server(sharded), sharded, queue=queue))
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=30))
        session = await open_session(http, urls[0])
        yield Rpc(http, urls[0]), session, session.at(urls[1])


async def test_one_stream_tells_of_tasks_on_both_shards(pair: tuple[Rpc, Session, Session]) -> None:
    rpc, _, _ = pair
    tasks = [await rpc.task(tool, text="x") for tool in ("here", "there")]
    ended = set()
    async with rpc.listen(taskIds=tasks) as frames:
        with anyio.fail_after(30):
            async for frame in frames:
                if frame["params"].get("status") == "completed":
                    ended.add(frame["params"]["taskId"])
                if ended == set(tasks):
                    break
    assert [(await rpc.get(task))["result"]["result"]["content"][0]["text"] for task in tasks] == ["x", "x"]


async def test_output_and_artifacts_of_a_shard_are_read_by_their_ids(
    pair: tuple[Rpc, Session, Session], reports: PrivateRedis
) -> None:
    rpc, _, _ = pair
    task_id = await rpc.task("there", text="x")
    await rpc.done(task_id)
    base = rpc.url.removesuffix("/mcp") + "/api"
    output = (await rpc.http.get(f"{base}/tasks/{task_id}/output")).json()
    assert [chunk["content"] for chunk in output["chunks"]] == ["x in part"]
    uri = f"{OUTPUT_URI}{task_id}/output"
    read = await rpc.ask("resources/read", {"uri": uri}, name=uri)
    assert "x in part" in read["result"]["contents"][0]["text"]
    async with Redis.from_url(reports.url) as redis:
        artifact_id = (await redis.smembers(Keys().artifacts(task_id))).pop().decode()
    assert artifact_id.endswith(".reports")
    assert (await rpc.http.get(f"{base}/artifacts/{artifact_id}")).text == "x"
    uri = ARTIFACT_URI + artifact_id
    assert (await rpc.ask("resources/read", {"uri": uri}, name=uri))["result"]["contents"][0]["text"] == "x"


async def test_tools_on_every_shard_and_replica_share_what_is_kept_for_a_session(
    pair: tuple[Rpc, Session, Session],
) -> None:
    _, here, there = pair
    calls = [(here, "count_default"), (there, "count_reports"), (there, "count_at_once"), (here, "count_reports")]
    counted = [(await session.call(tool))["result"]["content"][0]["text"] for session, tool in calls]
    assert counted == ["1", "2", "3", "4"]


async def test_a_session_at_home_follows_a_task_of_a_shard_on_any_replica(pair: tuple[Rpc, Session, Session]) -> None:
    """revision 2025-11-25: a plain call that is resumed elsewhere, a task, its result and the list."""
    _, here, there = pair
    async with here.streaming("tools/call", name="there", arguments={"text": "y"}) as frames:
        with anyio.fail_after(30):
            first = await anext(frames)
    async with there.listening(first.id) as frames:
        assert (await rest(frames))[-1].message["result"]["content"][0] == {"type": "text", "text": "y"}
    task = await here.task("there", text="z")
    result = (await there.ask("tasks/result", taskId=task["taskId"]))["result"]
    assert result["content"][0] == {"type": "text", "text": "z"}
    listed = (await there.ask("tasks/list"))["result"]
    assert (listed["tasks"][0]["taskId"], "_meta" in listed) == (task["taskId"], False)


async def test_a_list_says_whose_tasks_it_leaves_out(pair: tuple[Rpc, Session, Session], reports: PrivateRedis) -> None:
    _, here, _ = pair
    task = await here.task("here", text="x")
    await here.task("there", text="x")
    await asyncio.to_thread(reports.kill)
    try:
        listed = (await here.ask("tasks/list"))["result"]
        assert [one["taskId"] for one in listed["tasks"]] == [task["taskId"]]
        assert listed["_meta"] == {"io.taskmill/unreachable": ["reports"]}
        told = (await here.call("task_list"))["result"]["content"][0]["text"]
        assert "Tasks on reports cannot be listed right now" in told
    finally:
        await asyncio.to_thread(reports.start)


async def test_a_queue_that_moved_is_emptied_by_a_worker_of_its_old_shard(sharded: ServerSettings) -> None:
    """first everybody learns of the shard, then the queue moves, and what it has at home ends there."""
    before = sharded.model_copy(update={"queue_shards": {"reports": "home"}})
    async with client_of(make_server(before)) as early, client_of(make_server(sharded)) as late:
        left, moved = await early.task("there", text="old"), await late.task("there", text="new")
        assert ("." in left, moved.endswith(".reports")) == (False, True)
        async with working(make_server(sharded), sharded, queue="reports"):
            assert (await early.done(moved))["status"] == "completed"
            assert (await late.get(left))["result"]["status"] == "working"
        async with working(make_server(sharded), sharded, queue="reports", shard="home"):
            assert (await late.done(left))["status"] == "completed"


def test_a_worker_of_queues_on_two_shards_is_refused_with_what_to_do() -> None:
    shards = {"reports": "redis://b", "exports": "redis://c"}
    both = WorkerSettings(redis_url="redis://a", shards=shards, queue="default,reports")
    with pytest.raises(SettingsError, match=r"default is on home, reports is on reports: start a worker for each"):
        both.at_own_shard()
    with pytest.raises(SettingsError, match=r"TASKMILL_SHARD is nowhere, .* knows only home, reports, exports"):
        both.model_copy(update={"shard": "nowhere"}).at_own_shard()
    one = WorkerSettings(redis_url="redis://a", shards=shards, queue="reports,imports", shard="reports").at_own_shard()
    assert (one.redis_url, one.shards, one.at_own_shard()) == ("redis://b", {}, one)
