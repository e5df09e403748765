"""subscriptions/listen with `taskIds`: what is pushed, to whom, and that it is what tasks/get returns."""

from typing import Any

import anyio
import pytest
from mcp.shared.subscriptions import ToolsListChanged
from redis.asyncio import Redis

from taskmill.store.formats.keys import Keys
from taskmill.store.settings import StoreSettings
from tests.support.replica import TASKS, Rpc, client_of, working
from tests.support.sample_server import make_server

SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"


@pytest.mark.requirement("notifications-2026")
async def test_one_stream_sees_working_progress_and_completed(
    redis: Redis, idle_rpc: Rpc, settings: StoreSettings
) -> None:
    """tasks extension, "Task Status Notifications": acknowledged first, then complete tasks, each tagged."""
    task_id = await idle_rpc.task("steps", count=3)
    with anyio.fail_after(30):
        async with idle_rpc.listen(taskIds=[task_id]) as frames:
            first = await anext(frames)
            assert first["method"] == "notifications/subscriptions/acknowledged"
            assert first["params"]["notifications"] == {"taskIds": [task_id]}
            assert first["params"]["_meta"] == {SUBSCRIPTION: 1}
            queued = await anext(frames)
            assert queued["method"] == "notifications/tasks"
            assert (queued["params"]["status"], queued["params"]["statusMessage"]) == (
                "working",
                "queued, next in line; no worker serves its queue right now",
            )
            async with working(make_server(settings), settings):
                seen = [queued["params"]]
                while seen[-1]["status"] == "working":
                    frame = await anext(frames)
                    assert frame["method"] == "notifications/tasks"
                    seen.append(frame["params"])
    final = seen[-1]
    assert final.pop("_meta") == {SUBSCRIPTION: 1}
    polled = (await idle_rpc.get(task_id))["result"]
    assert final == {key: value for key, value in polled.items() if key not in ("resultType", "_meta")}


async def test_progress_is_pushed_while_the_tool_runs(rpc: Rpc) -> None:
    task_id = await rpc.task("stay")
    with anyio.fail_after(30):
        async with rpc.listen(taskIds=[task_id]) as frames:
            async for frame in frames:
                if frame["params"].get("statusMessage") == "settling in (25%)":
                    break


async def test_questions_and_cancellation_are_pushed(rpc: Rpc) -> None:
    task_id = await rpc.task("ask")
    with anyio.fail_after(30):
        async with rpc.listen(taskIds=[task_id]) as frames:
            async for frame in frames:
                if len(frame["params"].get("inputRequests", {})) == 2:
                    break
            await rpc.ask("tasks/cancel", {"taskId": task_id}, name=task_id)
            async for frame in frames:
                if frame["params"]["status"] == "cancelled":
                    break


async def test_a_task_is_followed_on_a_replica_that_did_not_create_it(rpc: Rpc, settings: StoreSettings) -> None:
    async with client_of(make_server(settings)) as other:
        task_id = await rpc.task("stay")
        with anyio.fail_after(30):
            async with other.listen(taskIds=[task_id]) as frames:
                async for frame in frames:
                    if frame["params"].get("statusMessage") == "settling in (25%)":
                        break
                await rpc.ask("tasks/cancel", {"taskId": task_id}, name=task_id)
                async for frame in frames:
                    if frame["params"]["status"] == "cancelled":
                        break


async def test_ids_that_are_not_yours_are_left_out_of_the_acknowledgement(
    rpc: Rpc, redis: Redis, settings: StoreSettings
) -> None:
    mine, foreign = await rpc.task("stay"), await rpc.task("stay")
    await redis.hset(Keys(settings.prefix).record(foreign), "principal", "somebody-else")
    with anyio.fail_after(30):
        async with rpc.listen(taskIds=[foreign, "unknown", mine, mine]) as frames:
            assert (await anext(frames))["params"]["notifications"] == {"taskIds": [mine]}
        async with rpc.listen(taskIds=[foreign]) as frames:
            assert (await anext(frames))["params"]["notifications"] == {}


@pytest.mark.requirement("capability-before-id")
async def test_task_ids_need_the_extension(rpc: Rpc) -> None:
    """tasks extension, "Protocol Errors": -32021 on subscriptions/listen."""
    with anyio.fail_after(30):
        async with rpc.without_tasks().listen(taskIds=["any"]) as frames:
            error = (await anext(frames))["error"]
    assert (error["code"], error["data"]) == (-32021, {"requiredCapabilities": {"extensions": {TASKS: {}}}})


@pytest.mark.parametrize("bad", ["one", {"a": 1}, [1], ["x"] * 1001])
async def test_malformed_task_ids_are_an_invalid_parameter(rpc: Rpc, bad: Any) -> None:
    with anyio.fail_after(30):
        async with rpc.listen(taskIds=bad) as frames:
            assert (await anext(frames))["error"]["code"] == -32602


async def test_a_stream_may_subscribe_to_tasks_and_list_changes_together(redis: Redis, settings: StoreSettings) -> None:
    server = make_server(settings)

    async with client_of(server) as rpc, working(make_server(settings), settings):
        task_id = await rpc.task("stay")
        with anyio.fail_after(30):
            async with rpc.listen(taskIds=[task_id], toolsListChanged=True) as frames:
                assert (await anext(frames))["params"]["notifications"] == {
                    "taskIds": [task_id],
                    "toolsListChanged": True,
                }
                await server._subscriptions.publish(ToolsListChanged())
                methods = set()
                async for frame in frames:
                    methods.add(frame["method"])
                    if methods == {"notifications/tools/list_changed", "notifications/tasks"}:
                        break


async def test_a_subscriber_receives_what_happened_while_redis_was_unreachable(
    rpc: Rpc, redis: Redis, settings: StoreSettings
) -> None:
    task_id = await rpc.task("stay")
    await rpc.until(task_id, "working")
    with anyio.fail_after(30):
        async with rpc.listen(taskIds=[task_id]) as frames:
            await anext(frames)
            await redis.client_kill_filter(_type="pubsub")
            await rpc.ask("tasks/cancel", {"taskId": task_id}, name=task_id)
            async for frame in frames:
                if frame["params"]["status"] == "cancelled":
                    break
