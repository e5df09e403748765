"""With seal keys, nothing that a caller sends, gets or is asked stands in Redis, its file, its channels or the log."""

import re
from collections.abc import AsyncIterator, Collection, Iterator
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from mcp_types import TextContent
from pydantic import BaseModel
from structlog.testing import capture_logs

from taskmill.server import Context, TaskConfig, TaskServer
from taskmill.testing import ClientKind, TestBed
from tests.server.api_client import bearer
from tests.server.session_client import next_message, open_session
from tests.support.redis_server import PrivateRedis
from tests.support.redis_watch import watched
from tests.support.replica import Rpc
from tests.support.tokens import guarded_options

pytestmark = pytest.mark.slow

MARK = "zq7secret"
"""Begins every text that must not be seen; what follows says which one it is."""
CRASH = "zq8crash"
"""Begins the text of a tool's own crash, which is in the worker's log."""
MARKED = re.compile(rf"(?:{MARK}|{CRASH})[\w-]*")
IN_CLEAR = ("progress", "chunk", "file", "kept", "step-result", "question", "answer", "client-name", "issuer")
"""Some of what is found without keys."""
TOKEN = f"{MARK}-issuer/{MARK}-client/{MARK}-subject"
KEY = b"k" * 32
ANSWERS = {"kind": f"{MARK}-answer"}


class Choice(BaseModel):
    kind: str


async def rows() -> AsyncIterator[bytes]:
    yield f"{MARK}-artifact-bytes".encode() * 10


def make_server() -> TaskServer[Any]:
    mcp: TaskServer[Any] = TaskServer("Clear", visible_claims=["iss"], **guarded_options())

    @mcp.tool(task=TaskConfig(idempotency="{account}", concurrency_key="{account}"))
    async def everything(account: str, ctx: Context[Any, Any]) -> str:
        """One call with all that a tool can do."""
        await ctx.report_progress(1, 3, f"{MARK}-progress")
        await ctx.report_progress(1, 3, f"{MARK}-progress")
        await ctx.emit(f"{MARK}-chunk")
        await ctx.attach(rows(), name=f"{MARK}-file.csv", mime_type="text/x-zq7secret")
        ctx.state["cart"] = f"{MARK}-state"
        await ctx.set_state("basket", f"{MARK}-kept", scope="principal")
        await ctx.step(f"{MARK}-step", lambda: f"{MARK}-step-result")
        answer = await ctx.elicit(f"{MARK}-question", Choice)
        return f"{MARK}-result {answer}"

    @mcp.tool(task=TaskConfig(retries=1, backoff=timedelta(0)))
    async def fail(ctx: Context[Any, Any]) -> str:
        """Fails twice."""
        raise RuntimeError(f"{CRASH}-error")

    @mcp.tool(task=True)
    async def think(ctx: Context[Any, Any]) -> str:
        """Asks the client's model."""
        answer = await ctx.sample(f"{MARK}-prompt", max_tokens=10)
        assert isinstance(answer.content, TextContent)
        return answer.content.text

    @mcp.tool()
    async def plain(ctx: Context[Any, Any]) -> str:
        """A call without a task, whose messages are kept for resumption."""
        await ctx.info(f"{MARK}-log")
        await ctx.report_progress(1, 1, f"{MARK}-plain-progress")
        return f"{MARK}-plain-result"

    return mcp


def answer(question: dict[str, Any]) -> Any:
    if question["method"] == "sampling/createMessage":
        return {"role": "assistant", "content": {"type": "text", "text": f"{MARK}-model"}, "model": "m"}
    return ANSWERS


@pytest.fixture(scope="module")
def own_redis() -> Iterator[PrivateRedis]:
    with PrivateRedis(appendonly="yes", appendfsync="no") as server:
        yield server


async def classes_of_clients(bed: TestBed, kinds: Collection[ClientKind]) -> None:
    """Every feature, for each class of client."""
    for kind in kinds:
        async with bed.client(kind, answers=answer, token=TOKEN) as client:
            assert f"{MARK}-result" in (await client.call("everything", account=f"{MARK}-argument-{kind}")).text
            if kind is not ClientKind.HANDED_OFF:
                assert f"{MARK}-model" in (await client.call("think")).text
            if kind is ClientKind.TASKS_2026:
                await client.call("fail")


async def open_tasks(bed: TestBed) -> None:
    """A session before 2026 with its own stream, and tasks that still ask."""
    async with httpx2.AsyncClient(headers=bearer(TOKEN), timeout=30) as http:
        session = await open_session(http, bed.url, name=f"{MARK}-client-name")
        async with session.listening() as frames:
            assert f"{MARK}-plain-result" in str(await session.call("plain"))
            task = await session.task("everything", account=f"{MARK}-open", token="progress")
            await session.until(task["taskId"], "input_required")
            while f"{MARK}-progress" not in str(await next_message(frames)):
                pass
        rpc = Rpc(http, bed.url)
        asked = await rpc.until(await rpc.task("everything", account=f"{MARK}-asked"), "input_required")
        assert f"{MARK}-question" in str(asked)


@pytest.mark.parametrize("kinds", [list(ClientKind), []], ids=["sealed", "in clear"])
async def test_what_callers_send_and_get_is_nowhere_in_clear(own_redis: PrivateRedis, kinds: list[ClientKind]) -> None:
    """Without keys nearly all of it is: the search finds what is there."""
    sealing: dict[str, Any] = {"seal_keys": (KEY,)} if kinds else {}
    with capture_logs() as logs:
        async with watched(own_redis) as watch, TestBed(make_server(), redis_url=own_redis.url, **sealing) as bed:
            await classes_of_clients(bed, kinds or [ClientKind.TASKS_2026])
            await open_tasks(bed)
    found = {f"{word} in {place}" for place, text in watch.places.items() for word in MARKED.findall(text)}
    if not kinds:
        assert {f"{MARK}-{word} in {place}" for word in IN_CLEAR for place in watch.places} <= found
        return
    assert found == set()
    assert set(MARKED.findall(repr(logs))) == {f"{MARK}-client-name", f"{CRASH}-error"}, "as docs/security.md says"
