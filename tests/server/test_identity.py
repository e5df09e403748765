"""Who called travels with the task: principal, the claims the author asked for, scopes - and never the token."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from redis.asyncio import Redis

from taskmill.engine.principal import ANONYMOUS, principal_of
from taskmill.server import Context, TaskConfig, TaskServer
from taskmill.store.settings import StoreSettings
from tests.server.session_client import open_session
from tests.support.invariants import read_redis
from tests.support.replica import Json, Rpc, client_of, working

SECRET = "swordfish-the-token-itself"
AUTH = AuthSettings.model_validate(
    {
        "issuer_url": "http://127.0.0.1:1",
        "resource_server_url": "http://127.0.0.1:2/mcp",
        "validate_token_resource": False,
    }
)
METADATA = "http://127.0.0.1:2/.well-known/oauth-protected-resource/mcp"


class Tokens:
    """Verifies tokens of the form `secret/subject/scope scope`."""

    async def verify_token(self, token: str) -> AccessToken | None:
        secret, subject, scopes = token.split("/")
        claims = {"iss": "https://issuer.example", "email": f"{subject}@example.com", "groups": ["a", "b"], "ssn": "1"}
        return AccessToken(token=secret, client_id="desktop", scopes=scopes.split(), subject=subject, claims=claims)


def make_server(settings: StoreSettings, scopes: tuple[str, ...] = ("rows:write", "rows:read"), **options: Any) -> Any:
    mcp: TaskServer[Any] = TaskServer("Identity", store=settings, **options)

    async def who(ctx: Context[Any, Any]) -> dict[str, Any]:
        return {"principal": ctx.principal, "claims": dict(ctx.claims)}

    mcp.add_tool(who, task=True)
    mcp.add_tool(who, "who_now")

    @mcp.tool(task=TaskConfig(scopes=scopes))
    async def write() -> str:
        return "written"

    return mcp


@dataclass
class Place:
    """A replica with authentication, and the settings its workers have."""

    url: str
    settings: StoreSettings

    def client(self, subject: str = "ann", scopes: str = "") -> Rpc:
        headers = {"authorization": f"Bearer {SECRET}/{subject}/{scopes}"}
        return Rpc(httpx2.AsyncClient(headers=headers, timeout=30), self.url)


@pytest.fixture
async def place(redis: Redis, settings: StoreSettings) -> AsyncIterator[Place]:
    options: dict[str, Any] = {"token_verifier": Tokens(), "auth": AUTH, "visible_claims": ["email", "sub", "phone"]}
    async with client_of(make_server(settings, **options)) as rpc:
        yield Place(rpc.url, settings)


async def result(rpc: Rpc, tool: str) -> Json:
    task = await rpc.done(await rpc.task(tool))
    value: Json = task["result"]
    return value


async def test_a_task_sees_who_called_as_a_foreground_call_does(place: Place) -> None:
    ann = principal_of("https://issuer.example", "desktop", "ann")
    seen = {"principal": ann, "claims": {"email": "ann@example.com", "sub": "ann"}}

    async with working(make_server(place.settings), place.settings):
        assert (await result(place.client(), "who"))["structuredContent"] == seen
        assert (await place.client().call("who_now"))["result"]["structuredContent"] == seen


async def test_without_authentication_everybody_is_anonymous_and_has_no_claims(
    redis: Redis, settings: StoreSettings
) -> None:
    server = make_server(settings, visible_claims=["email"])
    async with client_of(server) as rpc, working(make_server(settings), settings):
        assert (await result(rpc, "who"))["structuredContent"] == {"principal": ANONYMOUS, "claims": {}}


async def test_the_token_and_claims_nobody_asked_for_are_nowhere_in_redis(place: Place, redis: Redis) -> None:
    await place.client().task("who")

    stored = repr((await read_redis(redis)).values)

    assert "ann@example.com" in stored
    assert not [word for word in (SECRET, "ssn", "groups") if word in stored]


async def test_a_token_without_a_scope_is_challenged_before_there_is_a_task(place: Place, redis: Redis) -> None:
    """RFC 6750, 3.1; authorization specification, "Scope Challenge Handling"."""
    reply = await place.client(scopes="rows:read").post("tools/call", {"name": "write", "arguments": {}}, name="write")

    assert reply.status_code == 403
    assert reply.headers["www-authenticate"] == (
        f'Bearer error="insufficient_scope", scope="rows:write rows:read", resource_metadata="{METADATA}"'
    )
    assert reply.json() == {
        "error": "insufficient_scope",
        "error_description": "write needs the scope rows:write, which the access token does not have.",
        "scope": "rows:write rows:read",
    }
    assert (await read_redis(redis)).ids() == []


@pytest.mark.parametrize("as_task", [False, True])
async def test_before_2026_a_token_without_a_scope_is_challenged_too(place: Place, as_task: bool) -> None:
    session = await open_session(place.client(scopes="rows:read").http, place.url)
    more: dict[str, Any] = {"task": {}} if as_task else {}
    reply = await session.post(session.request("tools/call", name="write", arguments={}, **more))
    assert reply.status_code == 403
    assert 'error="insufficient_scope", scope="rows:write rows:read"' in reply.headers["www-authenticate"]


async def test_before_2026_who_called_is_known_as_well(place: Place) -> None:
    session = await open_session(place.client().http, place.url)
    async with working(make_server(place.settings), place.settings):
        seen = (await session.call("who"))["result"]["structuredContent"]
    assert seen["principal"] == principal_of("https://issuer.example", "desktop", "ann")
    assert seen["claims"] == {"email": "ann@example.com", "sub": "ann"}


async def test_before_2026_a_server_without_authentication_grants_no_scope(
    redis: Redis, settings: StoreSettings
) -> None:
    async with client_of(make_server(settings)) as rpc:
        session = await open_session(rpc.http, rpc.url)
        error = (await session.call("write"))["error"]
    assert (error["code"], error["data"]["reason"]) == (-32600, "insufficient_scope")


async def test_a_token_with_the_scopes_runs_the_tool(place: Place) -> None:
    async with working(make_server(place.settings), place.settings):
        value = await result(place.client(scopes="other rows:read rows:write"), "write")
        assert value["content"][0]["text"] == "written"


async def test_other_tools_are_not_affected(place: Place) -> None:
    assert (await place.client().call("who"))["result"]["resultType"] == "task"


async def test_a_large_call_without_a_scope_is_challenged_like_a_small_one(place: Place) -> None:
    request = place.client().request("tools/call", {"name": "write", "arguments": {"x": "y" * 2_500_000}}, name="write")
    reply = await place.client().http.post(place.url, **request)

    assert reply.status_code == 403
    assert 'error="insufficient_scope", scope="rows:write rows:read"' in reply.headers["www-authenticate"]


async def test_a_server_without_authentication_grants_no_scope(redis: Redis, settings: StoreSettings) -> None:
    async with client_of(make_server(settings)) as rpc:
        error = (await rpc.call("write"))["error"]
    assert (error["code"], error["data"]["reason"]) == (-32600, "insufficient_scope")


async def test_who_started_the_server_in_its_own_process_needs_no_token(redis: Redis, settings: StoreSettings) -> None:
    """On stdio and in memory; a held call, because this client declares no tasks."""
    async with working(make_server(settings), settings), Client(make_server(settings)) as client:
        assert (await client.call_tool("write", {})).content[0].text == "written"  # type: ignore[union-attr]


async def test_a_worker_that_asks_for_more_refuses_by_what_was_recorded(place: Place) -> None:
    """A deploy between call and run."""
    rpc = place.client(scopes="rows:read rows:write")
    task_id = await rpc.task("write")
    async with working(make_server(place.settings, scopes=("rows:write", "rows:admin")), place.settings):
        task = await rpc.done(task_id)

    assert (task["status"], task["error"]["code"]) == ("failed", -32600)
    assert "needs the scope rows:admin" in task["error"]["message"]


async def test_claims_are_sealed_with_the_arguments(place: Place, redis: Redis) -> None:
    settings = place.settings.model_copy(update={"seal_keys": (b"k" * 32,)})
    options: dict[str, Any] = {"token_verifier": Tokens(), "auth": AUTH, "visible_claims": ["email"]}
    async with client_of(make_server(settings, **options)) as rpc:
        await replace(place, url=rpc.url).client().task("who")

    assert "example.com" not in repr((await read_redis(redis)).values)
