"""`ctx.set_state` and its like: what a tool keeps for the session or the user that calls it, in tasks and outside."""

from collections.abc import Callable
from typing import Any

import pytest
from mcp import Client
from redis.asyncio import Redis

from taskmill.engine.errors import NotSerializable, StateUnavailable
from taskmill.server import Context, TaskConfig, TaskServer
from taskmill.testing import CallRecord, ClientKind, Eager, TestBed
from tests.support.tokens import guarded_options

BedOf = Callable[..., TestBed]
Ctx = Context[Any, Any]


@pytest.fixture
def bed_of(redis: Redis, redis_url: str) -> BedOf:
    return lambda server, **settings: TestBed(server, redis_url=redis_url, **settings)


def notes(**options: Any) -> TaskServer[Any]:
    mcp: TaskServer[Any] = TaskServer("Notes", **options)

    @mcp.tool(task=TaskConfig(retries=1, backoff=0.01))
    async def note(word: str, ctx: Ctx, scope: Any = None) -> str:
        words = await ctx.get_state("words", [], scope=scope)
        await ctx.set_state("words", (*words, word), scope=scope)
        if word == "stumble" and ctx.attempt == 1:
            raise OSError("stumbled behind the write")
        return " ".join(await ctx.get_state("words", scope=scope))

    async def look(ctx: Ctx, scope: Any = None) -> str:
        return " ".join(await ctx.get_state("words", ["none"], scope=scope))

    mcp.add_tool(look, "at_once")
    mcp.add_tool(look, "later", task=True)

    @mcp.tool(task=True)
    async def forget(ctx: Ctx) -> str:
        await ctx.delete_state("words")
        return "forgotten"

    return mcp


def text(record: CallRecord) -> tuple[str, bool]:
    return record.text, bool(record.result and record.result.is_error)


@pytest.mark.parametrize(("kind", "look"), [(ClientKind.TASKS_2025, "later"), (ClientKind.HELD, "at_once")])
async def test_tasks_and_calls_of_a_session_share_its_values(bed_of: BedOf, kind: ClientKind, look: str) -> None:
    async with bed_of(notes()) as bed, bed.client(kind) as client:
        assert text(await client.call("note", word="one")) == ("one", False)
        assert text(await client.call("note", word="two")) == ("one two", False)
        assert text(await client.call(look)) == ("one two", False)
        async with bed.client(kind) as another:
            assert text(await another.call(look)) == ("none", False)
        await client.call("forget")
        assert text(await client.call(look)) == ("none", False)
        refused = await client.call("note", word="x", scope="principal")
        assert "has not signed in" in refused.text


async def test_users_share_values_over_sessions_and_revisions_and_never_with_each_other(bed_of: BedOf) -> None:
    async with bed_of(notes(**guarded_options())) as bed:
        ada, bob = "issuer/app/ada", "issuer/app/bob"
        async with bed.client(ClientKind.TASKS_2026, token=ada) as client:
            assert (await client.call("note", word="one")).text == "one"
        async with bed.client(ClientKind.TASKS_2025, token=ada) as client:
            assert (await client.call("note", word="two", scope="principal")).text == "one two"
            assert (await client.call("later")).text == "none"
        async with bed.client(ClientKind.TASKS_2026, token=bob) as client:
            assert (await client.call("at_once")).text == "none"
            assert (await client.call("note", word="mine")).text == "mine"


async def test_an_anonymous_caller_without_a_session_is_refused_in_words(bed_of: BedOf) -> None:
    async with bed_of(notes()) as bed, bed.client(ClientKind.TASKS_2026) as client:
        for record in (await client.call("note", word="x"), await client.call("at_once")):
            said, failed = text(record)
            assert failed
            assert "has not signed in: all anonymous callers would share them" in said
        assert "is in none" in (await client.call("note", word="x", scope="session")).text


async def test_a_later_attempt_finds_what_the_one_before_has_set(bed_of: BedOf) -> None:
    async with bed_of(notes()) as bed, bed.client(ClientKind.TASKS_2025) as client:
        assert (await client.call("note", word="stumble")).text == "stumble stumble"


async def test_a_server_without_a_redis_says_what_state_needs(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TASKMILL_REDIS_URL", raising=False)
    mcp: TaskServer[Any] = TaskServer("Plain")

    @mcp.tool
    async def plain(ctx: Ctx) -> str:
        return str(await ctx.get_state("k"))

    async with Client(mcp) as client:
        said = await client.call_tool("plain", {})
    assert said.is_error
    assert "set TASKMILL_REDIS_URL" in str(said.content)


async def test_the_eager_test_server_keeps_values_for_its_calls() -> None:
    async with Eager(notes()) as eager:
        assert (await eager.call("note", {"word": "one"})).text == "one"
        assert (await eager.call("note", {"word": "two"})).text == "one two"
        with pytest.raises(StateUnavailable, match="has not signed in"):
            await eager.call("note", {"word": "x", "scope": "principal"})
    async with Eager(notes(), principal="ada") as eager:
        assert (await eager.call("note", {"word": "one", "scope": "principal"})).text == "one"


async def test_a_value_that_is_no_json_is_refused_at_once() -> None:
    mcp: TaskServer[Any] = TaskServer("Notes")

    @mcp.tool(task=True)
    async def keep(ctx: Ctx) -> str:
        with pytest.raises(NotSerializable, match="The value of 'k' cannot be written as JSON"):
            await ctx.set_state("k", {1, 2})
        await ctx.set_state("k", None)
        return str(await ctx.get_state("k", "default"))

    async with Eager(mcp) as eager:
        assert (await eager.call("keep")).text == "None"
