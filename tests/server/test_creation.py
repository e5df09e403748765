"""tools/call of task tools: who gets a handle, who waits, who is refused, and what must be true before."""

from functools import partial
from typing import Any

import anyio
import httpx2
import pytest
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.routing import Mount

from taskmill.server.auth.request_state import SharedStateCodec
from taskmill.store.formats.keys import Keys
from taskmill.store.formats.sealing import KeyRing
from taskmill.store.settings import StoreSettings
from tests.support.replica import TASKS, Rpc, client_of, messages, serving, working
from tests.support.sample_server import make_server


@pytest.mark.requirement("create-2026")
async def test_a_task_tool_is_answered_with_a_flat_handle(any_rpc: Rpc) -> None:
    """tasks extension, "Task Creation": `resultType: task`, the task inline, nothing of its payload."""
    reply = await any_rpc.call("stay")
    task = reply["result"]
    assert len(task["taskId"]) == 43  # 256 bits
    assert task.keys() - {"_meta"} == {
        "resultType",
        "taskId",
        "status",
        "statusMessage",
        "createdAt",
        "lastUpdatedAt",
        "ttlMs",
        "pollIntervalMs",
    }
    assert (task["resultType"], task["status"], task["ttlMs"], task["pollIntervalMs"]) == (
        "task",
        "working",
        None,
        1000,
    )
    assert task["createdAt"] == task["lastUpdatedAt"]


@pytest.mark.requirement("durable-creation", "any-replica")
async def test_the_handle_can_be_read_on_another_replica_at_once(settings: StoreSettings, idle_rpc: Rpc) -> None:
    """Durable creation: a handle is returned only after any replica can read the task."""
    async with client_of(make_server(settings)) as other:
        for _ in range(20):
            task_id = await idle_rpc.task("stay")
            assert (await other.get(task_id))["result"]["status"] == "working"


@pytest.mark.requirement("create-2026")
async def test_a_plain_tool_is_answered_as_ever_and_a_legacy_task_hint_is_ignored(rpc: Rpc) -> None:
    hint = {"name": "hello", "arguments": {"name": "World"}, "task": {"ttl": 60000, "pollInterval": 100}}
    result = (await rpc.ask("tools/call", hint, name="hello"))["result"]
    assert result["content"] == [{"type": "text", "text": "Hello, World!"}]
    assert (result["resultType"], "taskId" in result) == ("complete", False)


@pytest.mark.parametrize("capabilities", [{}, {"elicitation": {}}, {"tasks": {}}, {"extensions": {"other/thing": {}}}])
@pytest.mark.requirement("declares-per-request")
async def test_a_client_without_the_extension_waits_for_the_result(rpc: Rpc, capabilities: dict[str, Any]) -> None:
    """tasks extension: MUST NOT return a handle to a client that did not declare it on this request."""
    result = (await Rpc(rpc.http, rpc.url, capabilities).call("steps", count=3))["result"]
    assert (result["structuredContent"], result["resultType"]) == ({"steps": 3}, "complete")


async def test_a_waiting_client_with_a_progress_token_hears_progress(rpc: Rpc) -> None:
    params = {"name": "steps", "arguments": {"count": 3}, "_meta": {"progressToken": "t"}}
    *progress, result = messages(await rpc.without_tasks().post("tools/call", params, name="steps"))
    assert result["result"]["structuredContent"] == {"steps": 3}
    assert progress[-1]["params"] == {
        "progressToken": "t",
        "progress": 3.0,
        "total": 3.0,
        "message": "step 3 of 3 (100%)",
    }


@pytest.mark.requirement("drop-and-reattach")
async def test_a_waiting_client_that_leaves_takes_its_task_with_it(
    redis: Redis, rpc: Rpc, settings: StoreSettings
) -> None:
    """2026-07-28: closing the response stream cancels the request."""
    live = Keys(settings.prefix).live
    params = {"name": "stay", "arguments": {}, "_meta": {"progressToken": 1}}
    request = rpc.without_tasks().request("tools/call", params, name="stay")
    async with rpc.http.stream("POST", rpc.url, **request) as response:
        assert "settling in" in await anext(line async for line in response.aiter_lines() if line.startswith("data:"))
        assert await redis.zcard(live) == 1
    with anyio.fail_after(30):
        while await redis.zcard(live):
            await anyio.sleep(0.01)


async def test_a_required_task_tool_refuses_a_client_without_the_extension(rpc: Rpc, redis: Redis) -> None:
    """tasks extension, "Capability Negotiation": -32021 and the capability that is missing."""
    response = await rpc.without_tasks().post("tools/call", {"name": "strict", "arguments": {}}, name="strict")
    assert response.status_code == 400
    assert response.json()["error"]["code"] == -32021
    assert response.json()["error"]["data"] == {"requiredCapabilities": {"extensions": {TASKS: {}}}}
    assert await redis.zcard(Keys("taskmill").live) == 0


async def test_arguments_that_break_the_schema_are_refused_before_anything_is_queued(
    idle_rpc: Rpc, redis: Redis
) -> None:
    before = await redis.dbsize()
    result = (await idle_rpc.call("steps", count="many"))["result"]
    assert (result["isError"], result["resultType"]) == (True, "complete")
    assert "count" in result["content"][0]["text"]
    assert await redis.dbsize() == before


async def test_an_unknown_tool_is_told_as_the_sdk_tells_it(idle_rpc: Rpc, redis: Redis) -> None:
    before = await redis.dbsize()
    result = (await idle_rpc.call("nonsense"))["result"]
    assert (result["isError"], result["content"][0]["text"]) == (True, "Unknown tool: nonsense")
    assert await redis.dbsize() == before


async def test_oversized_arguments_are_refused_with_the_limit(idle_rpc: Rpc, redis: Redis) -> None:
    error = (await idle_rpc.call("plain", text="x" * 20_000))["error"]
    assert error["code"] == -32602
    assert "10,000" in error["message"]
    assert await redis.zcard(Keys("taskmill").live) == 0


async def test_an_oversized_result_fails_the_task_with_the_limit(rpc: Rpc) -> None:
    task = await rpc.done(await rpc.task("big", size=50_000))
    assert task["status"] == "failed"
    assert task["error"]["data"]["reason"] == "too_large"
    assert "20,000" in task["statusMessage"]


async def test_a_quota_is_a_retryable_error(redis: Redis, settings: StoreSettings) -> None:
    small = settings.model_copy(update={"open_limit": 2})
    async with client_of(make_server(small)) as rpc:
        await rpc.task("stay")
        await rpc.task("stay")
        error = (await rpc.call("stay"))["error"]
    limit = {"limit": "open_tasks", "allowed": 2, "used": 2, "retryAfter": 5}
    assert (error["code"], error["data"]) == (-32603, {"retryable": True, "reason": "quota", **limit})
    assert "2 open tasks" in error["message"]


async def test_questions_of_resolved_parameters_are_settled_before_the_task_exists(rpc: Rpc, redis: Redis) -> None:
    """tasks extension, "Task Creation": multi-round exchanges first, then the handle without `requestState`."""
    live = Keys("taskmill").live
    first = (await rpc.call("greet_later"))["result"]
    assert first["resultType"] == "input_required"
    assert await redis.zcard(live) == 0
    (key,) = first["inputRequests"]
    answer = {
        "name": "greet_later",
        "arguments": {},
        "inputResponses": {key: {"action": "accept", "content": {"name": "Ada"}}},
        "requestState": first["requestState"],
    }
    second = (await rpc.ask("tools/call", answer, name="greet_later"))["result"]
    assert (second["resultType"], "requestState" in second, "inputRequests" in second) == ("task", False, False)
    task = await rpc.done(second["taskId"])
    assert task["result"]["content"][0]["text"] == "Hello, Ada!"


async def test_the_second_round_goes_on_while_the_seal_keys_are_exchanged(
    redis: Redis, settings: StoreSettings
) -> None:
    """Replicas of a rolling deploy have the same keys in another order."""
    rings = [(b"o" * 32, b"n" * 32), (b"n" * 32, b"o" * 32)]
    for first_ring, second_ring in (rings, rings[::-1]):
        async with client_of(make_server(settings.model_copy(update={"seal_keys": first_ring}))) as rpc:
            first = (await rpc.call("greet_later"))["result"]
        (key,) = first["inputRequests"]
        answer = {
            "name": "greet_later",
            "arguments": {},
            "inputResponses": {key: {"action": "accept", "content": {"name": "Ada"}}},
            "requestState": first["requestState"],
        }
        async with client_of(make_server(settings.model_copy(update={"seal_keys": second_ring}))) as other:
            second = await other.ask("tools/call", answer, name="greet_later")
        assert second.get("result", second)["resultType"] == "task", second


def test_the_state_of_a_call_is_read_at_each_step_of_a_rotation_without_a_restart() -> None:
    """Of docs/security.md: each replica of a rolling deploy reads what the other wrote."""
    old, new = b"o" * 32, b"n" * 32
    for here, there in (((old,), (old, new)), ((old, new), (new, old)), ((new, old), (new,)), ((old,), (new, old))):
        mine, theirs = KeyRing(here), KeyRing(there)
        one, other = SharedStateCodec(), SharedStateCodec()
        one.use(partial(getattr, mine, "keys"))
        other.use(partial(getattr, theirs, "keys"))
        written = one.seal(b"state")
        assert other.unseal(written) == b"state"
        mine.replace(there)
        assert one.unseal(written) == other.unseal(one.seal(b"state")) == b"state"


async def test_the_second_round_may_arrive_at_another_replica(settings: StoreSettings, rpc: Rpc) -> None:
    first = (await rpc.call("greet_later"))["result"]
    (key,) = first["inputRequests"]
    answers = {key: {"action": "accept", "content": {"name": "Ada"}}}
    answer = {"name": "greet_later", "arguments": {}, "inputResponses": answers, "requestState": first["requestState"]}
    async with client_of(make_server(settings)) as other:
        second = (await other.ask("tools/call", answer, name="greet_later"))["result"]
        assert (await other.done(second["taskId"]))["result"]["content"][0]["text"] == "Hello, Ada!"


async def test_declining_the_first_question_is_a_tool_error_and_no_task(rpc: Rpc, redis: Redis) -> None:
    first = (await rpc.call("greet_later"))["result"]
    (key,) = first["inputRequests"]
    answers = {key: {"action": "decline"}}
    answer = {"name": "greet_later", "arguments": {}, "inputResponses": answers, "requestState": first["requestState"]}
    second = (await rpc.ask("tools/call", answer, name="greet_later"))["result"]
    assert (second["resultType"], second["isError"]) == ("complete", True)
    assert await redis.zcard(Keys("taskmill").live) == 0


@pytest.mark.requirement("capability-2026")
async def test_the_extension_is_advertised_and_no_legacy_capability(idle_rpc: Rpc) -> None:
    capabilities = (await idle_rpc.ask("server/discover", {}))["result"]["capabilities"]
    assert capabilities["extensions"] == {TASKS: {}}
    assert "tasks" not in capabilities


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("{", -32700),
        ("[]", -32600),
        ('{"jsonrpc":"2.0","id":1}', -32600),
        ('{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":[]}', -32600),
        ('{"jsonrpc":"2.0","id":1,"method":"tasks/get","params":{"taskId":"x"}}', -32602),
    ],
)
async def test_malformed_json_rpc_is_answered_with_its_error(idle_rpc: Rpc, body: str, code: int) -> None:
    headers = idle_rpc.request("tasks/get", {}, name="x")["headers"]
    response = await idle_rpc.http.post(idle_rpc.url, content=body, headers=headers)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == code


async def test_the_same_server_mounts_in_another_application_with_its_lifespan(
    redis: Redis, settings: StoreSettings
) -> None:

    server = make_server(settings)
    tools = server.http_app(path="/mcp")
    outer = Starlette(routes=[Mount("/deep/tools", app=tools)], lifespan=tools.router.lifespan_context)
    async with serving(outer) as address, working(make_server(settings), settings), httpx2.AsyncClient() as http:
        rpc = Rpc(http, f"{address}/deep/tools/mcp")
        task = await rpc.done(await rpc.task("steps", count=2))
        assert task["result"]["structuredContent"] == {"steps": 2}
        assert (await http.get(f"{address}/deep/tools/readyz")).json() == {"status": "ready"}
