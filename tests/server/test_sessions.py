"""Sessions of the revisions before 2026: opened on one replica, served by any, and only for their owner."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import anyio
import httpx2
import pytest
from mcp.server.mcpserver import Context as SdkContext
from pydantic import BaseModel
from redis.asyncio import Redis

from taskmill.server import TaskServer
from taskmill.server.settings import ServerSettings
from taskmill.store.formats.keys import Keys
from tests.server.session_client import Session, next_frame, next_message, open_session, rest
from tests.support.replica import serving, working
from tests.support.sample_server import make_server


class Name(BaseModel):
    name: str


def add_plain_tools(mcp: TaskServer[Any]) -> TaskServer[Any]:
    """Tools that are no tasks, and send messages to their client."""

    @mcp.tool()
    async def chatty(ctx: SdkContext[Any, Any]) -> str:
        """Reports progress and a log message."""
        await ctx.report_progress(1, 2, "half")
        await ctx.info("a word")
        return "said"

    @mcp.tool()
    async def asks(ctx: SdkContext[Any, Any]) -> str:
        """Asks its client."""
        answer = await ctx.elicit("Who?", Name)
        return f"{answer.action} {answer.data.name if answer.action == 'accept' else ''}"

    @mcp.tool()
    async def lets_go(ctx: SdkContext[Any, Any]) -> str:
        """Closes its stream in the middle."""
        await ctx.report_progress(1, 2, "before")
        await ctx.close_sse_stream()
        await ctx.report_progress(2, 2, "after")
        return "here"

    @mcp.tool()
    async def never(ctx: SdkContext[Any, Any]) -> str:
        """Sends one message and does not end."""
        await ctx.report_progress(1, 2, "begun")
        await anyio.sleep_forever()
        return "never"

    @mcp.tool()
    async def declared(ctx: SdkContext[Any, Any]) -> dict[str, Any]:
        """Name and capabilities of the client."""
        said = ctx.session.client_params
        assert said is not None
        return {
            "name": said.client_info.name,
            "capabilities": said.capabilities.model_dump(exclude_none=True, by_alias=True),
        }

    @mcp.tool()
    async def breaks() -> str:
        """Crashes with a secret."""
        raise RuntimeError("swordfish")

    return mcp


@pytest.fixture
async def pair(redis: Redis, settings: ServerSettings) -> AsyncIterator[tuple[str, str, httpx2.AsyncClient]]:
    """Two replicas, a worker, and HTTP."""
    async with AsyncExitStack() as stack:
        urls = []
        for _ in range(2):
            app = add_plain_tools(make_server(settings)).http_app()
            urls.append(await stack.enter_async_context(serving(app)) + "/mcp")
        await stack.enter_async_context(working(make_server(settings), settings))
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=30))
        yield urls[0], urls[1], http


@pytest.mark.requirement("any-replica")
async def test_a_session_is_served_by_a_replica_that_did_not_open_it(pair: tuple[str, str, httpx2.AsyncClient]) -> None:
    here, there, http = pair
    session = (await open_session(http, here)).at(there)
    assert (await session.call("hello", name="Ada"))["result"]["content"][0]["text"] == "Hello, Ada!"
    assert (await session.ask("ping"))["result"] == {}


@pytest.mark.requirement("session-ends")
async def test_a_deleted_session_is_gone_on_every_replica(pair: tuple[str, str, httpx2.AsyncClient]) -> None:
    here, there, http = pair
    session = await open_session(http, here)
    assert (await http.delete(there, headers=session.headers())).status_code == 200
    for url in (here, there):
        assert (await session.at(url).post(session.request("ping"))).status_code == 404


async def test_an_unknown_session_is_not_found(pair: tuple[str, str, httpx2.AsyncClient]) -> None:
    here, _, http = pair
    response = await Session(http, here, "never-was", "2025-11-25").post({"jsonrpc": "2.0", "id": 1, "method": "ping"})
    assert (response.status_code, response.json()["id"]) == (404, None)


async def test_a_client_without_a_session_is_served_too(
    pair: tuple[str, str, httpx2.AsyncClient],
) -> None:
    here, _, http = pair
    client = Session(http, here, None, "2025-06-18")
    assert (await client.call("plain", text="abc"))["result"]["content"][0]["text"] == "ABC"


async def test_messages_of_an_ordinary_call_are_sent_on_its_stream(pair: tuple[str, str, httpx2.AsyncClient]) -> None:
    here, _, http = pair
    session = await open_session(http, here)
    async with session.streaming("tools/call", name="chatty", arguments={}, _meta={"progressToken": "t"}) as frames:
        messages = [frame.message for frame in await rest(frames)]
    assert [message.get("method") for message in messages] == ["notifications/progress", "notifications/message", None]
    assert messages[-1]["result"]["content"][0]["text"] == "said"


async def test_a_question_is_answered_through_another_replica(pair: tuple[str, str, httpx2.AsyncClient]) -> None:
    here, there, http = pair
    session = await open_session(http, here)
    async with session.streaming("tools/call", name="asks", arguments={}) as frames:
        question = await next_message(frames)
        assert question["method"] == "elicitation/create"
        answered = await session.at(there).reply(question, {"action": "accept", "content": {"name": "Ada"}})
        assert answered.status_code == 202
        assert (await next_message(frames))["result"]["content"][0]["text"] == "accept Ada"


async def test_an_unexpected_reply_is_not_kept(pair: tuple[str, str, httpx2.AsyncClient], redis: Redis) -> None:
    here, _, http = pair
    session = await open_session(http, here)
    before = await redis.dbsize()
    for request_id in ("made-up", "made-up:input-1", 7):
        reply = await session.reply({"id": request_id}, {"action": "accept", "content": {"name": "x" * 100_000}})
        assert reply.status_code == 202
    assert await redis.dbsize() == before


async def test_a_session_follows_the_newest_of_very_many_tasks(
    pair: tuple[str, str, httpx2.AsyncClient], redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskmill.store.sessions.sessions._MOST_FOLLOWED", 3)
    here, _, http = pair
    session = await open_session(http, here)
    ids = [(await session.task("stay"))["taskId"] for _ in range(5)]
    followed = await redis.hkeys(Keys().followed(session.id or ""))  # type: ignore[misc]  # both clients' type
    assert sorted(task_id.decode() for task_id in followed) == sorted(ids[3:])


@pytest.mark.requirement("resumed")
async def test_an_ordinary_call_is_resumed_on_another_replica_without_gap_or_repeat(
    pair: tuple[str, str, httpx2.AsyncClient],
) -> None:
    here, there, http = pair
    session = await open_session(http, here)
    async with session.streaming("tools/call", name="lets_go", arguments={}, _meta={"progressToken": "t"}) as frames:
        seen = await rest(frames)
    assert [frame.message["params"]["message"] for frame in seen] == ["before"]
    async with session.at(there).listening(seen[-1].id) as frames:
        messages = [frame.message for frame in await rest(frames)]
    assert messages[0]["params"]["message"] == "after"
    assert messages[1]["result"]["content"][0]["text"] == "here"
    assert len(messages) == 2


async def test_a_cancelled_ordinary_call_ends_also_through_another_replica(
    pair: tuple[str, str, httpx2.AsyncClient], redis: Redis
) -> None:
    here, there, http = pair
    session = await open_session(http, here)
    async with session.streaming("tools/call", name="never", arguments={}, _meta={"progressToken": "t"}) as frames:
        assert (await next_message(frames))["params"]["message"] == "begun"
        with anyio.fail_after(30):
            while not await redis.pubsub_channels(f"*session:{session.id}"):
                await anyio.sleep(0.01)
        await session.at(there).notify("notifications/cancelled", requestId=session._number)
        last = await next_message(frames)
    assert last["error"]["code"] == -32800


async def test_a_crash_is_reported_without_its_text(pair: tuple[str, str, httpx2.AsyncClient]) -> None:
    here, _, http = pair
    session = await open_session(http, here)
    reply = await session.call("breaks")
    assert reply["result"]["isError"]
    assert "swordfish" not in str(reply)


async def test_capabilities_and_name_of_the_client_are_kept_with_the_session(
    pair: tuple[str, str, httpx2.AsyncClient],
) -> None:
    here, there, http = pair
    session = (await open_session(http, here, capabilities={"roots": {"listChanged": True}}, name="kept")).at(there)
    assert (await session.call("declared"))["result"]["structuredContent"] == {
        "name": "kept",
        "capabilities": {"roots": {"listChanged": True}},
    }


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', 400),
        (b'{"jsonrpc":"2.0"}', 400),
        (b'{"jsonrpc":"2.0","id":{},"method":"ping"}', 400),
        (b'{"jsonrpc":"2.0","id":1,"result":{}}', 400),
        (b"[" * 100_000, 400),
    ],
    ids=["cut", "empty batch", "batch", "nothing", "strange id", "a reply of no session", "deep"],
)
async def test_a_body_that_is_not_one_message_is_refused(
    pair: tuple[str, str, httpx2.AsyncClient], body: bytes, status: int
) -> None:
    here, _, http = pair
    client = Session(http, here, None, "2025-11-25")
    response = await http.post(here, content=body, headers=client.headers(content_type="application/json"))
    assert (response.status_code, response.json()["id"]) == (status, None)


async def test_a_response_type_that_the_client_does_not_accept_is_not_sent(
    pair: tuple[str, str, httpx2.AsyncClient],
) -> None:
    here, _, http = pair
    session = await open_session(http, here)
    only_json = session.headers() | {"accept": "application/json"}
    assert (await http.post(here, json=session.request("ping"), headers=only_json)).status_code == 406
    assert (await http.get(here, headers=only_json)).status_code == 406
    assert (await http.put(here, json={}, headers=session.headers())).status_code == 405


@pytest.mark.requirement("eras-do-not-mix")
async def test_an_envelope_of_2026_on_a_session_is_refused(pair: tuple[str, str, httpx2.AsyncClient]) -> None:
    here, _, http = pair
    session = await open_session(http, here)
    meta = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}
    response = await session.post(session.request("tools/list", _meta=meta))
    assert response.status_code == 400
    assert response.json()["error"]["code"] == -32600


@pytest.mark.requirement("eras-do-not-mix")
async def test_a_request_of_a_session_under_the_header_of_2026_is_refused(
    pair: tuple[str, str, httpx2.AsyncClient],
) -> None:
    here, _, http = pair
    session = await open_session(http, here)
    response = await session.post(session.request("tools/list"), mcp_protocol_version="2026-07-28")
    assert response.status_code == 400
    assert response.json()["error"]["code"] in (-32602, -32020)


@pytest.mark.parametrize("cursor", ["", "garbage", "a.b", "x" * 5000, "AAAAAAAAAAAAAAAAAAAAAA.1", "../../etc.1"])
async def test_a_forged_cursor_is_refused(pair: tuple[str, str, httpx2.AsyncClient], cursor: str) -> None:
    here, _, http = pair
    session = await open_session(http, here)
    response = await http.get(here, headers=session.headers(last_event_id=cursor or "."))
    assert response.status_code == 400
    assert response.json()["error"]["code"] == -32602


@pytest.mark.requirement("own-streams-only")
async def test_a_cursor_of_another_session_is_refused(pair: tuple[str, str, httpx2.AsyncClient]) -> None:
    here, _, http = pair
    mine, other = await open_session(http, here), await open_session(http, here)
    async with mine.streaming("tools/call", name="chatty", arguments={}, _meta={"progressToken": "t"}) as frames:
        cursor = (await next_frame(frames)).id
        assert cursor is not None
    assert (await http.get(here, headers=other.headers(last_event_id=cursor))).status_code == 400


async def test_a_newer_stream_of_the_session_replaces_the_older(
    pair: tuple[str, str, httpx2.AsyncClient],
) -> None:
    here, there, http = pair
    session = await open_session(http, here)
    async with session.listening() as older, session.at(there).listening():
        assert await rest(older) == []


async def test_more_sessions_than_the_limit_are_refused(redis: Redis, settings: ServerSettings) -> None:
    few = settings.model_copy(update={"session_limit_total": 2})
    async with serving(make_server(few).http_app()) as address, httpx2.AsyncClient(timeout=30) as http:
        for _ in range(2):
            await open_session(http, address + "/mcp")
        with pytest.raises(AssertionError, match="the limit"):
            await open_session(http, address + "/mcp")
