"""With seal keys, nothing that a caller of a FastMCP server sends or gets stands in Redis, its file or its channels."""

from typing import Any

from fastmcp import Context, FastMCP
from fastmcp.dependencies import TokenClaim

from taskmill.adapters.fastmcp import Tasks
from taskmill.testing import ClientKind, TestBed
from tests.adapters.fastmcp_auth import ANN, Verifier
from tests.support.redis_server import PrivateRedis
from tests.support.redis_watch import watched

MARK = "zq7secret"


def make_server() -> FastMCP[Any]:
    mcp: FastMCP[Any] = FastMCP("Clear", auth=Verifier())
    mcp.add_extension(Tasks(carry_token=True))

    @mcp.tool(task=True)
    async def dig(what: str, ctx: Context, user: str = TokenClaim("sub")) -> str:
        await ctx.report_progress(1, 2, f"{MARK}-progress")
        answer = await ctx.elicit(f"{MARK}-question", response_type=str)
        return f"{MARK}-result {what} {user} {answer}"

    return mcp


async def test_what_callers_of_a_fastmcp_server_send_and_get_is_nowhere_in_clear() -> None:
    """The caller's token is carried to the worker, too."""
    with PrivateRedis(appendonly="yes", appendfsync="no") as server:
        bed = TestBed(make_server(), redis_url=server.url, seal_keys=(b"k" * 32,))
        async with watched(server) as watch, bed:
            for kind in (ClientKind.TASKS_2026, ClientKind.HELD):
                async with bed.client(kind, token=ANN, answers=[{"value": f"{MARK}-answer"}]) as client:
                    done = await client.call("dig", what=f"{MARK}-argument")
                assert f"{MARK}-result" in done.text, done
        found = [f"{word} in {place}" for place, text in watch.places.items() for word in (MARK, ANN) if word in text]
    assert found == []
    assert "XADD" in watch.commands or "HSET" in watch.commands
