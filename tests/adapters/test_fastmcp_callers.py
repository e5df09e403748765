"""Who calls a tool of a FastMCP server: told apart by more than the client, known in the worker, never by the token."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from fastmcp import Context, FastMCP
from fastmcp.dependencies import CurrentAccessToken, CurrentHeaders, TokenClaim
from fastmcp.server.auth import AccessToken, AuthContext, require_scopes
from fastmcp.server.auth.providers.jwt import StaticTokenVerifier
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from redis.asyncio import Redis

from taskmill.adapters.fastmcp import Tasks
from taskmill.engine.errors import SettingsError
from taskmill.store.settings import StoreSettings
from taskmill.testing import ClientKind, TestBed
from tests.adapters.fastmcp_auth import ANN, BOB, Verifier
from tests.support.waiting import eventually_async

BedOf = Callable[..., TestBed]


def guarded(**options: Any) -> FastMCP[Any]:
    mcp: FastMCP[Any] = FastMCP("Guarded", auth=Verifier())
    if options:
        mcp.add_extension(Tasks(**options))

    @mcp.tool(task=True)
    async def who(
        ctx: Context,
        token: AccessToken = CurrentAccessToken(),  # noqa: B008 - FastMCP's way
        user: str = TokenClaim("sub"),
        headers: dict[str, str] = CurrentHeaders(),  # noqa: B008
    ) -> dict[str, Any]:
        return {
            "user": user,
            "token": token.token,
            "scopes": token.scopes,
            "claims": sorted(token.claims),
            "agent": "user-agent" in headers,
            "authorization": headers.get("authorization"),
            "session": ctx.session_id,
        }

    @mcp.tool(task=True, auth=require_scopes("write"))
    async def write() -> str:
        return "written"

    return mcp


async def told(bed: TestBed, token: str, kind: ClientKind = ClientKind.TASKS_2026) -> dict[str, Any]:
    async with bed.client(kind, token=token) as client:
        record = await client.call("who")
    assert record.result is not None
    content: dict[str, Any] = record.result.structured_content
    return content


@pytest.mark.parametrize("kind", [ClientKind.TASKS_2026, ClientKind.TASKS_2025, ClientKind.HELD])
async def test_a_worker_knows_the_caller_without_the_token(kind: ClientKind, bed_of: BedOf) -> None:
    async with bed_of(guarded()) as bed:
        known = await told(bed, ANN, kind)
    del known["session"]
    assert known == {
        "user": "ann",
        "token": "",
        "scopes": ["read", "write"],
        "claims": ["sub", "team"],
        "agent": True,
        "authorization": None,
    }


async def test_a_token_that_is_part_of_its_callers_name_takes_nothing_of_the_identity_away(bed_of: BedOf) -> None:
    """As tokens of development are: `dev` of the client `dev-tools`."""
    mcp: FastMCP[Any] = FastMCP(
        "Guarded", auth=StaticTokenVerifier({"a": {"client_id": "alice", "team": "ana", "raw": "a"}})
    )

    @mcp.tool(task=True)
    async def who(token: AccessToken = CurrentAccessToken()) -> dict[str, Any]:  # noqa: B008 - FastMCP's way
        return {"token": token.token, "client": token.client_id, **token.claims}

    async with bed_of(mcp) as bed, bed.client(ClientKind.TASKS_2026, token="a") as client:
        record = await client.call("who")

    assert record.result is not None
    known = record.result.structured_content
    assert (known["token"], known["client"], known["team"], known.get("raw")) == ("", "alice", "ana", None)


async def test_redis_never_has_the_token(bed_of: BedOf, redis: Redis) -> None:
    async with bed_of(guarded()) as bed:
        await bed.stop_worker()  # so that what is stored of the call stays
        async with bed.client(ClientKind.TASKS_2026, token=ANN) as ann:
            calling = asyncio.create_task(ann.call("who"))
            await eventually_async(lambda: first_task(bed))
            dumped = await everything(redis)
            await bed.start_worker()
            await calling
    assert b"blue" in dumped
    assert ANN.encode() not in dumped


async def test_two_users_of_one_client_do_not_see_each_others_tasks(bed_of: BedOf) -> None:
    async with bed_of(guarded()) as bed:
        async with bed.client(ClientKind.TASKS_2026, token=ANN) as ann:
            made = await ann.call("who")
        assert made.task_id is not None
        owner = (await bed.task(made.task_id)).record.principal
        async with bed.client(ClientKind.TASKS_2026, token=BOB) as bob:
            other = await bob.call("who")
        assert other.task_id is not None
        assert (await bed.task(other.task_id)).record.principal != owner


@pytest.mark.parametrize("kind", [ClientKind.TASKS_2026, ClientKind.HELD])
async def test_who_may_not_call_a_tool_makes_no_task_of_it(kind: ClientKind, bed_of: BedOf) -> None:
    async with bed_of(guarded()) as bed:
        async with bed.client(kind, token=BOB) as bob:
            refused = await bob.call("write")
        assert refused.result is not None
        assert refused.result.is_error
        assert "Unknown tool" in refused.text
        assert await bed.task_ids() == []
        async with bed.client(kind, token=ANN) as ann:
            assert (await ann.call("write")).text == "written"


async def test_a_worker_checks_again_whether_the_caller_may_call_the_tool(bed_of: BedOf) -> None:
    allowed = {"now": True}
    mcp: FastMCP[Any] = FastMCP("Guarded", auth=Verifier())

    def may(_context: AuthContext) -> bool:
        return allowed["now"]

    @mcp.tool(task=True, auth=may)
    async def write() -> str:
        return "written"

    class Closes(Middleware):
        async def on_call_tool(self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]) -> Any:
            result = await call_next(context)
            allowed["now"] = False
            return result

    mcp.add_middleware(Closes())
    async with bed_of(mcp) as bed:
        await bed.stop_worker()
        async with bed.client(ClientKind.TASKS_2026, token=ANN) as ann:
            calling = asyncio.create_task(ann.call("write"))
            task_id = await eventually_async(lambda: first_task(bed))
            await eventually_async(lambda: not allowed["now"])
            await bed.start_worker()
            view = await bed.until(task_id)
            await calling
    assert "Unknown tool" in str(view.outcome)


async def test_the_api_asks_for_the_same_tokens(bed_of: BedOf) -> None:
    async with bed_of(guarded()) as bed, httpx2.AsyncClient() as http:
        address = bed.url.removesuffix("/mcp") + "/api/tasks"
        refused = await http.get(address)
        await told(bed, ANN)
        of_ann = await http.get(address, headers={"authorization": f"Bearer {ANN}"})
        of_bob = await http.get(address, headers={"authorization": f"Bearer {BOB}"})
    assert refused.status_code == 401
    assert len(of_ann.json()["tasks"]) == 1
    assert of_bob.json()["tasks"] == []


async def test_a_token_is_carried_only_where_payloads_are_sealed(bed_of: BedOf, redis: Redis, redis_url: str) -> None:
    in_clear = Tasks(carry_token=True, store=StoreSettings(redis_url=redis_url))
    FastMCP("Guarded").add_extension(in_clear)
    with pytest.raises(SettingsError, match="TASKMILL_SEAL_KEYS"):
        async with in_clear.serving():
            pass
    async with bed_of(guarded(carry_token=True), seal_keys=(b"k" * 32,)) as bed:
        assert (await told(bed, ANN))["token"] == ANN
        dumped = await everything(redis)
    assert ANN.encode() not in dumped


async def everything(redis: Redis) -> bytes:
    """All that Redis holds, as it would be on its disk but not compressed: there, words are cut in pieces."""
    await redis.config_set("rdbcompression", "no")
    return b"".join([await redis.dump(key) or b"" for key in await redis.keys()])


async def first_task(bed: TestBed) -> str | None:
    return next(iter(await bed.task_ids()), None)
