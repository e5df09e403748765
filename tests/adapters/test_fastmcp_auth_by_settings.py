"""A FastMCP server without authentication of its own, which the settings close: its tools' own scopes still count."""

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from fastmcp import Client, FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.server.auth import require_scopes
from fastmcp.server.auth.providers.jwt import JWTVerifier
from fastmcp.server.dependencies import get_access_token
from redis.asyncio import Redis

from taskmill.adapters.fastmcp import Tasks
from taskmill.adapters.fastmcp.host import FastMCPHost
from taskmill.server.settings import ServerSettings
from tests.support.issuer import AUDIENCE, Issuer
from tests.support.issuer import issuer as issuer
from tests.support.replica import Rpc, serving


@pytest.fixture
async def address(redis: Redis, redis_url: str, issuer: Issuer) -> AsyncIterator[str]:
    """Of an application that its author starts."""
    mcp: FastMCP[Any] = FastMCP("Reports")
    settings = ServerSettings(redis_url=redis_url, auth_issuer=issuer.url, auth_audience=(AUDIENCE,))
    mcp.add_extension(Tasks(store=settings, worker=True))

    @mcp.tool()
    async def who() -> str:
        token = get_access_token()
        return "no one" if token is None else str(token.claims["sub"])

    @mcp.tool(task=True, auth=require_scopes("rows:write"))
    async def erase() -> str:
        return "erased"

    async with serving(mcp.http_app()) as address:
        yield f"{address}/mcp"


async def test_tools_see_the_user_and_their_scopes_are_checked(address: str, issuer: Issuer) -> None:
    async with Client(address, auth=issuer.token()) as reader:
        assert (await reader.call_tool("who")).data == "ada"
        assert [tool.name for tool in await reader.list_tools() if tool.name in ("who", "erase")] == ["who"]
        with pytest.raises(ToolError, match="erase"):
            await reader.call_tool("erase")
    async with Client(address, auth=issuer.token("bob", scope="rows:write")) as writer:
        assert (await writer.call_tool("erase")).data == "erased"


async def test_without_a_good_token_it_is_closed(address: str, issuer: Issuer) -> None:
    async with httpx2.AsyncClient(timeout=30) as http:
        for token in ("x", issuer.token(aud="other"), issuer.token(sub=None), issuer.token(exp=1)):
            http.headers["authorization"] = f"Bearer {token}"
            refused = await Rpc(http, address).post("tools/list", {})
            assert refused.status_code == 401
            assert "resource_metadata=" in refused.headers["www-authenticate"]


async def test_an_outage_of_the_issuer_is_a_503(address: str, issuer: Issuer) -> None:
    async with httpx2.AsyncClient(timeout=30, headers={"authorization": f"Bearer {issuer.token()}"}) as http:
        with issuer.away():
            assert (await Rpc(http, address).post("tools/list", {})).status_code == 503


def test_a_verifier_without_audience_or_issuer_is_doubtful() -> None:
    key = "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----"
    whole = JWTVerifier(public_key=key, issuer="https://login.example.com", audience="reports")
    found = {
        name: FastMCPHost(FastMCP("Reports", auth=auth)).auth_doubts()
        for name, auth in (("none", None), ("whole", whole), ("bare", JWTVerifier(public_key=key)))
    }
    assert {name: len(doubts) for name, doubts in found.items()} == {"none": 0, "whole": 0, "bare": 2}
