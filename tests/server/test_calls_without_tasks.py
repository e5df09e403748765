"""Clients without tasks: their call is held, resumed on any replica, handed off before the host's call timeout."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import anyio
import httpx2
import pytest
from redis.asyncio import Redis

from taskmill.engine.status import Status
from taskmill.server.settings import ServerSettings
from taskmill.store.formats.keys import Keys
from tests.server.session_client import Session, next_frame, next_message, open_session, rest
from tests.support.replica import Rpc, serving, working
from tests.support.sample_server import make_server

Pair = tuple[Session, Session]
FOLLOW_UPS = ["task_wait", "task_status", "task_answer", "task_cancel", "task_list"]


@pytest.fixture
async def urls(redis: Redis, settings: ServerSettings) -> AsyncIterator[list[str]]:
    """Two replicas and a worker."""
    async with AsyncExitStack() as stack:
        apps = [make_server(settings).http_app() for _ in range(2)]
        yield_urls = [await stack.enter_async_context(serving(app)) + "/mcp" for app in apps]
        await stack.enter_async_context(working(make_server(settings), settings))
        yield yield_urls


@pytest.fixture
async def pair(urls: list[str], http: httpx2.AsyncClient) -> Pair:
    """One session at two replicas."""
    session = await open_session(http, urls[0])
    return session, session.at(urls[1])


async def the_task(redis: Redis) -> str:
    """The one open task, once it runs."""
    with anyio.fail_after(30):
        while True:
            for (task_id,) in [await redis.zrange(Keys().live, 0, 0)] if await redis.zcard(Keys().live) else []:
                if await redis.hget(Keys().record(task_id.decode()), "status") == Status.RUNNING.encode():
                    return str(task_id.decode())
            await anyio.sleep(0.01)


async def status_of(redis: Redis, task_id: str) -> str:
    return str((await redis.hget(Keys().record(task_id), "status")).decode())


async def until_status(redis: Redis, task_id: str, status: str) -> None:
    with anyio.fail_after(30):
        while await status_of(redis, task_id) != status:
            await anyio.sleep(0.01)


def texts(result: dict[str, Any]) -> str:
    return "\n".join(part["text"] for part in result["content"])


# Resumable calls of earlier revisions


@pytest.mark.requirement("primed")
async def test_a_call_is_primed_at_once_and_ends_with_the_result(pair: Pair) -> None:
    here, _ = pair
    call = {"name": "steps", "arguments": {"count": 2}, "_meta": {"progressToken": 7}}
    async with here.streaming("tools/call", **call) as frames:
        with anyio.fail_after(30):
            first = await anext(frames)
            assert (first.data, first.retry) == ("", 1000)
            assert first.id is not None
            seen = await rest(frames)
    assert seen[-1].message["result"]["structuredContent"] == {"steps": 2}
    assert seen[-1].message["id"] == here._number
    assert {frame.message["params"]["progressToken"] for frame in seen[:-1]} == {7}


@pytest.mark.requirement("resumed")
async def test_a_call_is_resumed_on_another_replica_from_any_event_without_gap_or_repeat(pair: Pair) -> None:
    here, there = pair
    call = {"name": "steps", "arguments": {"count": 3}, "_meta": {"progressToken": "t"}}
    async with here.streaming("tools/call", **call) as frames:
        seen = [frame async for frame in frames]
    for at, frame in enumerate(seen[:-1]):
        async with there.listening(frame.id) as frames:
            again = [one.data for one in await rest(frames)]
        assert again == [one.data for one in seen[at + 1 :]]


async def test_nothing_follows_the_end_of_a_stream(pair: Pair) -> None:
    here, there = pair
    async with here.streaming("tools/call", name="steps", arguments={"count": 1}) as frames:
        end = [frame async for frame in frames][-1].id
    assert end is not None
    response = await there.http.get(there.url, headers=there.headers(last_event_id=end))
    assert (response.status_code, response.content) == (204, b"")


async def test_a_call_whose_replica_lost_the_client_goes_on_and_is_resumed(
    pair: Pair, redis: Redis, tmp_path: Any
) -> None:
    here, there = pair
    gate = tmp_path / "gate"
    async with here.streaming("tools/call", name="until_exists", arguments={"path": str(gate)}) as frames:
        cursor = (await anext(frames)).id
        task_id = await the_task(redis)
    assert await status_of(redis, task_id) == "running"
    async with there.listening(cursor) as frames:
        gate.touch()
        assert (await next_message(frames))["result"]["content"][0]["text"] == "there"


@pytest.mark.requirement("closed-on-purpose")
async def test_a_stream_is_closed_on_purpose_and_the_client_reconnects(
    redis: Redis, settings: ServerSettings, http: httpx2.AsyncClient, tmp_path: Any
) -> None:
    gate = tmp_path / "gate"
    short = settings.model_copy(update={"stream_limit": 0.2})
    async with serving(make_server(short).http_app()) as address, working(make_server(short), short):
        session = await open_session(http, address + "/mcp")
        async with session.streaming("tools/call", name="until_exists", arguments={"path": str(gate)}) as frames:
            with anyio.fail_after(30):
                first, *more = [frame async for frame in frames]
        cursor = first.id
        assert more == []
        for _ in range(2):
            async with session.listening(cursor) as frames:
                assert await rest(frames) == []
        gate.touch()
        with anyio.fail_after(30):
            found: list[Any] = []
            while not found:
                async with session.listening(cursor) as frames:
                    found = await rest(frames)
        assert found[-1].message["result"]["content"][0]["text"] == "there"


@pytest.mark.requirement("disconnect-is-no-cancel")
async def test_a_cancelled_call_cancels_its_task_also_through_another_replica(pair: Pair, redis: Redis) -> None:
    here, there = pair
    async with here.streaming("tools/call", name="stay", arguments={}) as frames:
        task_id = await the_task(redis)
        await there.notify("notifications/cancelled", requestId=here._number)
        assert "error" in await next_message(frames)
    assert await status_of(redis, task_id) == "cancelled"


async def test_a_question_in_a_held_call_is_asked_once_and_answered_on_another_replica(pair: Pair) -> None:
    here, there = pair
    async with here.streaming("tools/call", name="ask", arguments={}) as frames:
        asked = [await next_frame(frames), await next_frame(frames)]
    async with there.listening(asked[-1].id) as frames:
        for frame in asked:
            await here.reply(frame.message, {"action": "accept", "content": {"name": "Ada"}})
        assert [one.message["result"]["content"][0]["text"] for one in await rest(frames)] == ["Ada Ada"]


async def test_a_cursor_of_a_task_that_expired_ends_the_call_with_an_error(pair: Pair, redis: Redis) -> None:
    here, there = pair
    async with here.streaming("tools/call", name="stay", arguments={}) as frames:
        cursor = (await anext(frames)).id
        task_id = await the_task(redis)
    await redis.delete(Keys().record(task_id), Keys().events(task_id))
    async with there.listening(cursor) as frames:
        assert "expired" in (await next_message(frames))["error"]["message"]
    await redis.flushall()


# Held calls


@pytest.mark.requirement("heartbeat")
async def test_a_silent_call_sends_heartbeats_while_it_is_queued_and_while_it_runs(
    redis: Redis, settings: ServerSettings, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskmill.server.streams.paced_events.HEARTBEAT", 0.1)
    async with serving(make_server(settings).http_app()) as address:
        rpc = Rpc(http, address + "/mcp", {})
        session = await open_session(http, address + "/mcp")
        params = {"name": "stay", "arguments": {}, "_meta": {"progressToken": "t"}}
        async with session.streaming("tools/call", **params) as old, _stream(rpc, "tools/call", params) as new:
            for frames in (old, new):
                beats = [(await next_message(frames))["params"] for _ in range(3)]
                assert all("queued" in beat["message"] for beat in beats)
                assert beats[0]["progress"] < beats[1]["progress"] < beats[2]["progress"] < 1


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.requirement("drop-and-reattach")
async def test_a_call_that_is_repeated_within_the_grace_attaches_to_its_task(
    urls: list[str], http: httpx2.AsyncClient, redis: Redis, tmp_path: Any, same: bool
) -> None:
    gate = tmp_path / "gate"
    here, there = (Rpc(http, url, {}) for url in urls)
    async with anyio.create_task_group() as calling:
        calling.start_soon(partial(here.call, "until_exists", path=str(gate)))
        task_id = await the_task(redis)
        calling.cancel_scope.cancel()
    with anyio.fail_after(30):
        while not await redis.keys(Keys().left("*")):
            await anyio.sleep(0.01)
    other = tmp_path / "other"
    async with anyio.create_task_group() as group:
        replies: list[dict[str, Any]] = []

        async def call() -> None:
            replies.append(await there.call("until_exists", path=str(gate if same else other)))

        group.start_soon(call)
        if same:
            with anyio.fail_after(30):
                while await redis.keys(Keys().left("*")):
                    await anyio.sleep(0.01)
        gate.touch()
        other.touch()
    assert replies[0]["result"]["content"][0]["text"] == "there"
    if same:
        assert await status_of(redis, task_id) == "completed"
        assert len(await redis.keys(Keys().record("*"))) == 1


async def test_questions_of_a_held_call_are_a_round_of_the_call_for_a_client_of_2026(
    urls: list[str], http: Any
) -> None:
    rpc = Rpc(http, urls[0], {"elicitation": {}})
    asked = (await rpc.call("ask"))["result"]
    assert asked["resultType"] == "input_required"
    answers = {key: {"action": "accept", "content": {"name": f"N{n}"}} for n, key in enumerate(asked["inputRequests"])}
    again = {"name": "ask", "arguments": {}, "inputResponses": answers, "requestState": asked["requestState"]}
    there = Rpc(http, urls[1], {"elicitation": {}})
    result = (await there.ask("tools/call", again, name="ask"))["result"]
    while result["resultType"] == "input_required":  # one question may have been asked before the other
        answers = {key: {"action": "accept", "content": {"name": "N9"}} for key in result["inputRequests"]}
        again |= {"inputResponses": answers, "requestState": result["requestState"]}
        result = (await there.ask("tools/call", again, name="ask"))["result"]
    assert texts(result).startswith("N")


# Hand-off and the follow-up tools


@pytest.fixture
async def hasty(redis: Redis, settings: ServerSettings) -> AsyncIterator[str]:
    """A replica that hands calls off after a moment, and a worker."""
    soon = settings.model_copy(update={"handoff_after": 0.3})
    async with serving(make_server(soon).http_app()) as address, working(make_server(soon), soon):
        yield address + "/mcp"


@pytest.fixture(params=["2026", "2025", "no session"])
async def caller(request: pytest.FixtureRequest, hasty: str, http: httpx2.AsyncClient) -> Any:
    """A client without tasks and without a progress token, of three kinds: its `call`."""
    match request.param:
        case "2026":
            return Rpc(http, hasty, {})
        case "2025":
            return await open_session(http, hasty, capabilities={})
        case _:
            return Session(http, hasty, None, "2025-06-18")


@pytest.mark.requirement("hand-off")
async def test_a_long_call_is_handed_off_and_waited_for_until_the_tools_own_result(
    caller: Any, redis: Redis, tmp_path: Any
) -> None:
    gate = tmp_path / "gate"
    handed = (await caller.call("until_exists", path=str(gate)))["result"]
    assert not handed.get("isError")
    task_id = await the_task(redis)
    assert task_id in texts(handed)
    assert "task_wait" in texts(handed)

    still = (await caller.call("task_wait", task_id=task_id))["result"]
    assert "still running" in texts(still)
    gate.touch()
    result = (await caller.call("task_wait", task_id=task_id))["result"]
    assert texts(result) == "there"
    again = (await caller.call("task_wait", task_id=task_id))["result"]
    assert texts(again) == "there"


@pytest.mark.requirement("never-handed-off")
async def test_a_call_that_asks_for_progress_is_never_handed_off(
    hasty: str, http: httpx2.AsyncClient, tmp_path: Any, redis: Redis
) -> None:
    gate = tmp_path / "gate"
    session = await open_session(http, hasty)
    params = {"name": "until_exists", "arguments": {"path": str(gate)}, "_meta": {"progressToken": "t"}}
    async with session.streaming("tools/call", **params) as frames:
        task_id = await the_task(redis)
        moment = float(await redis.hget(Keys().record(task_id), "started_ms"))
        with anyio.fail_after(30):
            while (await redis.time())[0] * 1000 < moment + 1500:
                await anyio.sleep(0.05)
        gate.touch()
        assert texts((await rest(frames))[-1].message["result"]) == "there"


@pytest.mark.parametrize(("name", "is_held"), [("claude-code", True), ("claude-ai", False), ("unheard of", False)])
async def test_known_hosts_are_held_or_handed_off_by_their_name(
    redis: Redis, settings: ServerSettings, http: httpx2.AsyncClient, tmp_path: Any, name: str, is_held: bool
) -> None:
    soon = settings.model_copy(update={"handoff_after": 0.2})
    gate = tmp_path / "gate"
    server = make_server(soon, hosts={"claude-ai": 0.2})
    async with serving(server.http_app()) as address, working(make_server(soon), soon):
        session = await open_session(http, address + "/mcp", name=name)
        async with session.streaming("tools/call", name="until_exists", arguments={"path": str(gate)}) as frames:
            task_id = await the_task(redis)
            if is_held:
                gate.touch()
            result = texts((await rest(frames))[-1].message["result"])
        assert (result == "there") is is_held
        assert (task_id in result) is not is_held
        gate.touch()
        await until_status(redis, task_id, "completed")


@pytest.mark.requirement("follow-up-tools")
async def test_the_follow_up_tools_are_listed_last_and_for_plain_clients_only(
    urls: list[str], http: httpx2.AsyncClient
) -> None:
    rpc = Rpc(http, urls[0])
    old = await open_session(http, urls[0])
    tasks = await open_session(http, urls[0], name="Visual Studio Code")
    lists = [
        (await rpc.ask("tools/list", {}))["result"]["tools"],
        (await tasks.ask("tools/list"))["result"]["tools"],
        (await rpc.without_tasks().ask("tools/list", {}))["result"]["tools"],
        (await old.ask("tools/list"))["result"]["tools"],
    ]
    names = [[tool["name"] for tool in tools] for tools in lists]
    assert [sorted(set(FOLLOW_UPS) & set(listed)) for listed in names] == [
        [],
        [],
        sorted(FOLLOW_UPS),
        sorted(FOLLOW_UPS),
    ]
    assert [listed[-5:] for listed in names[2:]] == [FOLLOW_UPS] * 2
    schemas = [{tool["name"]: "outputSchema" in tool for tool in tools}["steps"] for tools in lists]
    assert schemas == [True, True, False, False]


@pytest.mark.requirement("follow-up-tools")
async def test_status_cancel_and_list_describe_the_tasks(hasty: str, http: httpx2.AsyncClient, redis: Redis) -> None:
    session = await open_session(http, hasty)
    other = await open_session(http, hasty)
    await session.call("stay")
    task_id = await the_task(redis)
    assert "settling in (25%)" in texts((await session.call("task_status", task_id=task_id))["result"])
    assert task_id in texts((await session.call("task_list"))["result"])
    assert texts((await other.call("task_list"))["result"]) == "There are no tasks."
    assert "was cancelled" in texts((await session.call("task_cancel", task_id=task_id))["result"])
    assert "already ended" in texts((await session.call("task_cancel", task_id=task_id))["result"])
    assert (await session.call("task_wait", task_id=task_id))["error"]["message"] == "The task was cancelled."


@pytest.mark.parametrize("tool", ["task_wait", "task_status", "task_cancel"])
async def test_an_unknown_task_is_a_tool_error_in_words(hasty: str, http: httpx2.AsyncClient, tool: str) -> None:
    session = await open_session(http, hasty)
    result = (await session.call(tool, task_id="never-was"))["result"]
    assert result["isError"]
    assert "There is no task 'never-was'" in texts(result)


async def test_a_question_is_handed_off_with_its_words_and_answered_with_a_tool(
    hasty: str, http: httpx2.AsyncClient, redis: Redis
) -> None:
    client = Rpc(http, hasty, {})
    await client.call("greet_late")
    task_id = str((await redis.zrange(Keys().live, 0, 0))[0].decode())
    shown = texts((await client.call("task_status", task_id=task_id))["result"])
    assert "Who are you?" in shown
    assert "task_answer" in shown
    key = shown.partition('key "')[2].partition('"')[0]
    wrong = (await client.call("task_answer", task_id=task_id, key=key, answer={"name": 7}))["result"]
    assert wrong["isError"]
    assert "still open" in texts(wrong)
    none = (await client.call("task_answer", task_id=task_id, key="nope", answer={"name": "Ada"}))["result"]
    assert none["isError"]
    await client.call("task_answer", task_id=task_id, key=key, answer={"name": "Ada"})
    assert texts((await client.call("task_wait", task_id=task_id))["result"]) == "Hello, Ada!"


async def test_cancelling_a_wait_does_not_cancel_the_task(hasty: str, http: httpx2.AsyncClient, redis: Redis) -> None:
    session = await open_session(http, hasty)
    await session.call("stay")
    task_id = await the_task(redis)
    params = {"name": "task_wait", "arguments": {"task_id": task_id}, "_meta": {"progressToken": "t"}}
    async with session.streaming("tools/call", **params) as frames:
        await anext(frames)
        await session.notify("notifications/cancelled", requestId=session._number)
    assert await status_of(redis, task_id) == "running"


def test_an_author_may_not_use_a_follow_up_tools_name_unless_they_are_left_out(settings: ServerSettings) -> None:
    from taskmill.engine.errors import DuplicateTool
    from taskmill.server import TaskServer

    def task_wait() -> None:
        """Mine."""

    with pytest.raises(DuplicateTool, match="follow_up_tools=False"):
        TaskServer("x", store=settings).tool()(task_wait)
    TaskServer("x", store=settings, follow_up_tools=False).tool()(task_wait)


class _stream:
    """A call of a 2026 client, read event by event."""

    def __init__(self, rpc: Rpc, method: str, params: dict[str, Any]) -> None:
        self._parts = rpc.request(method, params, name=params.get("name"))
        self._context = rpc.http.stream("POST", rpc.url, **self._parts)

    async def __aenter__(self) -> AsyncIterator[Any]:
        from tests.server.session_client import _frames

        response = await self._context.__aenter__()
        return _frames(response.aiter_lines())

    async def __aexit__(self, *exc: object) -> None:
        await self._context.__aexit__(*exc)
