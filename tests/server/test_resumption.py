"""What unmodified clients need that reconnect for a stream, or never call for a result."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import anyio
import httpx2
import pytest
from mcp.server.mcpserver import Context as SdkContext
from mcp.shared.exceptions import MCPError
from redis.asyncio import Redis

from taskmill.server import Context, TaskConfig, TaskServer
from taskmill.server.sessions import session_stream
from taskmill.server.settings import ServerSettings
from taskmill.store.sessions.open_calls import OpenCallStore
from tests.server.session_client import Frame, Json, Session, next_frame, next_message, open_session, rest
from tests.support.replica import serving, working
from tests.support.sample_server import Person, make_server

RELATED = "io.modelcontextprotocol/related-task"
Pair = tuple[Session, Session]


def make(settings: ServerSettings) -> TaskServer[Any]:
    mcp = make_server(settings)

    @mcp.tool()
    async def ordinary(ctx: SdkContext[Any, Any]) -> str:
        """No task: sends a message and fails."""
        await ctx.report_progress(1, 2, "half")
        raise MCPError(-32050, "no further")

    @mcp.tool(task=TaskConfig(poll_interval=0.05))
    async def ask_soon(ctx: Context[Any, Any]) -> str:
        """Asks a client that polls often."""
        answer = await ctx.elicit("Who?", Person)
        await ctx.report_progress(1, 1, "asked")
        return str(answer.action)

    return mcp


@pytest.fixture
async def pair(redis: Redis, settings: ServerSettings) -> AsyncIterator[Pair]:
    """One session at two replicas, and a worker."""
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(serving(make(settings).http_app())) + "/mcp" for _ in range(2)]
        await stack.enter_async_context(working(make(settings), settings))
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=30))
        session = await open_session(http, urls[0])
        yield session, session.at(urls[1])


def calling(session: Session, tool: str, **arguments: Any) -> Any:
    return session.streaming("tools/call", name=tool, arguments=arguments, _meta={"progressToken": "t"})


async def first(frames: AsyncIterator[Frame]) -> str:
    """The id that primes a stream."""
    with anyio.fail_after(30):
        frame = await anext(aiter(frames))
    assert frame.id is not None
    assert not frame.data
    return frame.id


async def test_a_resumed_stream_sends_what_is_new_and_is_closed_in_order(pair: Pair) -> None:
    """The official Python clients lose their cursor when a resumed stream breaks off; closed in order, they keep it."""
    here, there = pair
    async with calling(here, "stay") as frames:
        primed = await first(frames)
    async with there.listening(primed) as frames:
        told = await rest(frames)
    assert [frame.message["params"]["message"] for frame in told] == ["settling in (25%)"]
    async with there.listening(told[-1].id) as frames:
        assert await first(frames) == told[-1].id
        await here.notify("notifications/cancelled", requestId=here._number)
        last = await next_message(frames)
    assert last["id"] == here._number
    assert "error" in last


async def test_a_cursor_at_the_end_of_a_tasks_call_gets_204(pair: Pair) -> None:
    """The official TypeScript client counts no error as a response, and reconnects until it gets 204."""
    here, there = pair
    async with calling(here, "complain", how="protocol") as frames:
        last = (await rest(frames))[-1]
    assert last.message["error"]["code"] == -32050
    assert (await there.http.get(there.url, headers=there.headers(last_event_id=last.id))).status_code == 204


async def test_a_cursor_at_the_end_of_an_ordinary_call_gets_204(pair: Pair) -> None:
    here, there = pair
    async with calling(here, "ordinary") as frames:
        half, last = await rest(frames)
    assert last.message["error"]["code"] == -32050
    assert (await there.http.get(there.url, headers=there.headers(last_event_id=last.id))).status_code == 204
    async with there.listening(half.id) as frames:
        assert [frame.message for frame in await rest(frames)] == [last.message]


async def test_a_result_stream_has_no_progress_from_before_it(pair: Pair) -> None:
    """A client with one progress handler for both requests would receive everything twice."""
    here, there = pair
    task = await here.task("steps", token="original", count=3)
    await here.until(task["taskId"], "completed")
    async with there.streaming("tasks/result", taskId=task["taskId"], _meta={"progressToken": "own"}) as frames:
        (only,) = await rest(frames)
    assert only.message["result"]["structuredContent"] == {"steps": 3}


async def test_a_result_without_a_session_has_no_progress_from_before_it(pair: Pair) -> None:
    here, there = pair
    task = await here.task("steps", token="original", count=3)
    await here.until(task["taskId"], "completed")
    stranger = Session(there.http, there.url, None, there.revision)
    body = stranger.request("tasks/result", taskId=task["taskId"], _meta={"progressToken": "own"})
    answer = (await stranger.post(body)).text
    assert "notifications/progress" not in answer
    assert '"steps":3' in answer.replace(" ", "")


async def test_a_result_stream_has_the_progress_that_comes_after_it(pair: Pair) -> None:
    """It keeps the client from a timeout of the result."""
    here, there = pair
    task = await here.task("ask_soon", token="original")
    await here.until(task["taskId"], "input_required")
    async with there.streaming("tasks/result", taskId=task["taskId"], _meta={"progressToken": "own"}) as frames:
        question = await next_frame(frames)
        assert question.message["params"]["message"] == "Who?"
        await there.reply(question.message, {"action": "decline"})
        progress, result = await rest(frames)
    assert (
        progress.message["params"] | {"progressToken": "own", "message": "asked (100%)"} == progress.message["params"]
    )
    assert result.message["result"]["content"][0]["text"] == "decline"


async def until(frames: AsyncIterator[Frame], enough: str) -> list[Json]:
    """Messages up to the first with this method, or of a task in this state."""
    seen = [await next_message(frames)]
    while enough not in (seen[-1]["method"], seen[-1]["params"].get("status")):
        seen.append(await next_message(frames))
    return seen


async def test_a_question_reaches_a_client_that_only_polls(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ext-tasks` and VS Code never call `tasks/result` for a task whose input is required."""
    monkeypatch.setattr(session_stream, "_POLL_MARGIN", 0.05)
    here, there = pair
    async with there.listening() as frames:
        task = await here.task("ask_soon")
        question = (await until(frames, "elicitation/create"))[-1]
        assert question["params"]["message"] == "Who?"
        assert question["params"]["_meta"][RELATED] == {"taskId": task["taskId"]}
        await here.reply(question, {"action": "accept", "content": {"name": "Ada"}})
        await until(frames, "completed")
    assert (await here.ask("tasks/result", taskId=task["taskId"]))["result"]["content"][0]["text"] == "accept"


async def test_a_question_is_not_asked_twice_when_the_client_calls_for_the_result(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided: asyncio.Queue[bool] = asyncio.Queue()
    is_awaited = OpenCallStore.is_awaited

    async def noted(self: OpenCallStore, session_id: str, task_id: str) -> bool:
        decided.put_nowait(await is_awaited(self, session_id, task_id))
        return await is_awaited(self, session_id, task_id)

    monkeypatch.setattr(OpenCallStore, "is_awaited", noted)
    here, there = pair
    async with there.listening() as listened:
        task = await here.task("ask_soon")
        async with here.streaming("tasks/result", taskId=task["taskId"]) as frames:
            question = await next_message(frames)
            with anyio.fail_after(30):
                assert await decided.get()
            await here.reply(question, {"action": "decline"})
            assert (await next_message(frames))["result"]["content"][0]["text"] == "decline"
        methods = {message["method"] for message in await until(listened, "completed")}
    assert methods == {"notifications/tasks/status"}
