"""Limits of one principal, as its clients and the operator meet them."""

from collections.abc import AsyncIterator
from time import time
from typing import Any

import httpx2
import pytest
import structlog
from redis.asyncio import Redis

from taskmill.server.settings import ServerSettings
from taskmill.store.formats.keys import Keys
from taskmill.workers import loop
from taskmill.workers.attempts import endings
from tests.server.api_client import client_with
from tests.server.session_client import open_session
from tests.support.replica import client_of, working
from tests.support.sample_server import make_server
from tests.support.tokens import guarded_options
from tests.support.waiting import eventually_async

ADA, BOB = "issuer/app/ada", "issuer/app/bob"
INITIALIZE: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
PING = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
ACCEPT = {"accept": "application/json, text/event-stream"}


@pytest.fixture
async def guarded(redis: Redis, settings: ServerSettings) -> AsyncIterator[str]:
    """The address of a replica that wants a token, with small limits."""
    small = settings.model_copy(update={"session_limit": 2, "kept_limit": 1})
    async with client_of(make_server(small, **guarded_options())) as rpc, working(make_server(small), small):
        yield rpc.url


async def test_one_caller_cannot_use_up_the_sessions_of_others(guarded: str) -> None:
    ada, bob = client_with(guarded, ADA).http, client_with(guarded, BOB).http
    first = await open_session(ada, guarded)
    await open_session(ada, guarded)

    refused = await ada.post(guarded, json=INITIALIZE, headers=ACCEPT)

    error = refused.json()["error"]
    seconds = int(refused.headers["retry-after"])
    assert (refused.status_code, 0 < seconds <= 600) == (429, True)
    assert error["message"] == "You have 2 open sessions, the limit. Close one (DELETE), or wait till one is idle."
    assert error["data"] == {
        "retryable": True,
        "reason": "quota",
        "limit": "sessions",
        "allowed": 2,
        "used": 2,
        "retryAfter": seconds,
    }
    await open_session(bob, guarded)
    await ada.delete(guarded, headers=first.headers())
    await open_session(ada, guarded)


async def test_a_session_more_than_the_limit_ends_the_one_that_is_idle_the_longest(
    guarded: str, redis: Redis, settings: ServerSettings
) -> None:
    """Most clients never end a session: a caller with a thousand of them would be shut out for a day."""
    ada = client_with(guarded, ADA).http
    sessions = [await open_session(ada, guarded) for _ in range(2)]
    eleven_minutes_ago = (time() + settings.session_idle - 660) * 1000
    for number, session in enumerate(sessions):
        await redis.zadd(Keys().sessions, {str(session.id): eleven_minutes_ago + number})
    await redis.hset(Keys().calls(str(sessions[0].id)), "1", "open")  # type: ignore[misc]  # both clients' type

    newest = await open_session(ada, guarded)

    async def is_open(session: Any) -> bool:
        return (await ada.post(guarded, json=PING, headers=ACCEPT | session.headers())).status_code == 200

    assert [await is_open(session) for session in (*sessions, newest)] == [True, False, True]

    for session in (sessions[0], newest):  # idle, but each waits for an answer
        await redis.zadd(Keys().sessions, {str(session.id): eleven_minutes_ago})
        await redis.hset(Keys().calls(str(session.id)), "1", "open")  # type: ignore[misc]  # both clients' type
    refused = await ada.post(guarded, json=INITIALIZE, headers=ACCEPT)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")


async def test_a_session_that_ended_by_being_idle_counts_no_longer(guarded: str, redis: Redis) -> None:
    ada = client_with(guarded, ADA).http
    session = await open_session(ada, guarded)
    await open_session(ada, guarded)
    await redis.zrem(Keys().sessions, str(session.id))

    await open_session(ada, guarded)


async def test_what_a_client_says_of_itself_has_a_size(guarded: str, redis: Redis) -> None:
    ada = client_with(guarded, ADA).http
    params = {**INITIALIZE["params"], "capabilities": {"experimental": {"x": {"y": "z" * 20_000}}}}

    refused = await ada.post(guarded, json={**INITIALIZE, "params": params}, headers=ACCEPT)

    assert refused.status_code == 413
    assert "16,384 is the limit" in refused.json()["error"]["message"]
    assert not await redis.exists(Keys().sessions)


async def test_a_call_beyond_what_may_be_kept_says_which_limit_and_when_to_try_again(guarded: str) -> None:
    ada = client_with(guarded, ADA)
    await ada.done(await ada.task("steps", count=1))

    error = (await ada.call("steps", count=1))["error"]

    data = error["data"]
    assert (data["retryable"], data["limit"], data["allowed"], data["used"]) == (True, "kept_tasks", 1, 1)
    assert 0 < data["retryAfter"] <= 3600
    assert (await client_with(guarded, BOB).done(await client_with(guarded, BOB).task("steps", count=1)))["result"]


async def test_a_full_redis_makes_a_replica_unready_and_refuses_calls_in_words(
    redis: Redis, settings: ServerSettings
) -> None:
    async with client_of(make_server(settings)) as rpc:
        used = (await redis.info("memory"))["used_memory"]
        await redis.config_set("maxmemory", int(used / 0.95))
        try:
            error = (await rpc.call("stay"))["error"]
            async with httpx2.AsyncClient() as http:
                ready = await http.get(rpc.url.replace("/mcp", "/readyz"))
                metrics = (await http.get(rpc.url.replace("/mcp", "/metrics"))).text
        finally:
            await redis.config_set("maxmemory", 0)
    assert error["data"] == {"retryable": True, "reason": "store_full", "retryAfter": 30}
    assert (ready.status_code, ready.json()["status"]) == (503, "full")
    assert "new tasks are refused from 90 % on" in ready.json()["detail"]
    assert 'taskmill_refused_total{limit="memory"} 1.0' in metrics


@pytest.mark.parametrize("comes", [True, False], ids=["room comes", "no room comes"])
async def test_a_result_that_finds_no_room_waits_for_it_and_then_the_task_fails_with_the_reason(
    redis: Redis, settings: ServerSettings, monkeypatch: pytest.MonkeyPatch, comes: bool
) -> None:
    """The worker starts, claims and renews in a Redis that is full."""
    monkeypatch.setattr(loop, "_ROOM_PAUSE", 0.02)
    monkeypatch.setattr(endings, "_REFUSALS", 10_000 if comes else 3)
    wide = settings.model_copy(update={"max_result": 200_000})
    async with client_of(make_server(wide)) as rpc:
        task_id = await rpc.task("big", size=90_000)
        await redis.config_set("maxmemory", 1)
        try:
            with structlog.testing.capture_logs() as logs:
                async with working(make_server(wide), wide):
                    await eventually_async(lambda: _is_logged(logs, "task.no_room_for_result"))
                    if comes:
                        await redis.config_set("maxmemory", 0)
                    task = await rpc.done(task_id)
        finally:
            await redis.config_set("maxmemory", 0)
    if comes:
        assert len(task["result"]["content"][0]["text"]) == 90_000
    else:
        assert task["error"]["data"]["reason"] == "too_large"
        assert "was full" in task["error"]["message"]


def _is_logged(logs: list[Any], event: str) -> bool:
    return any(entry["event"] == event for entry in logs)


async def test_tasks_of_one_caller_beyond_those_that_may_run_wait_and_others_run(
    redis: Redis, settings: ServerSettings
) -> None:
    narrow = settings.model_copy(update={"running_limit": 1})
    async with (
        client_of(make_server(narrow, **guarded_options())) as rpc,
        working(make_server(narrow), narrow),
    ):
        ada, bob = client_with(rpc.url, ADA), client_with(rpc.url, BOB)
        first, second = await ada.task("stay"), await ada.task("steps", count=1)
        await bob.done(await bob.task("steps", count=1))
        assert (await ada.get(second))["result"]["status"] == "working"
        await ada.ask("tasks/cancel", {"taskId": first}, name=first)
        await ada.done(second)


async def test_a_caller_that_sends_too_much_is_refused_for_a_while_and_others_are_not(
    redis: Redis, settings: ServerSettings
) -> None:
    gone = {"taskId": "x"}
    slow = settings.model_copy(update={"request_rate": 0.5, "creation_rate": 0.2, "request_limit": 1})
    async with client_of(make_server(slow, **guarded_options())) as rpc:
        ada, bob = client_with(rpc.url, ADA), client_with(rpc.url, BOB)
        await ada.task("stay")
        await ada.task("stay")
        refused = (await ada.call("stay"))["error"]
        async with ada.listen(taskIds=["x"]) as frames:
            await anext(frames)
            crowded = await ada.post("tasks/get", gone, name="x")
        # The stream counts until the replica has noticed that its client closed it.
        while (await ada.ask("tasks/get", gone, name="x"))["error"].get("data", {}).get("limit") != "requests":
            pass
        last = await ada.post("tasks/get", gone, name="x")
        await bob.task("stay")
    assert (refused["data"]["limit"], refused["data"]["retryAfter"]) == ("creations", 5)
    assert crowded.status_code == 429
    assert crowded.json()["error"]["data"]["limit"] == "open_requests"
    assert last.json()["error"]["data"]["limit"] == "requests"
    assert int(last.headers["retry-after"]) >= 1
