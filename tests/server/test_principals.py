"""Whose task is it: the access token's issuer, client and subject. Nobody else sees, answers or cancels it."""

from collections.abc import AsyncIterator

import pytest
from mcp.server.auth.provider import AccessToken
from redis.asyncio import Redis

from taskmill.store.formats.keys import Keys
from taskmill.store.settings import StoreSettings
from tests.server.api_client import client_with
from tests.server.session_client import Session, open_session
from tests.support.replica import client_of, working
from tests.support.sample_server import make_server
from tests.support.tokens import guarded_options


@pytest.fixture
async def guarded(redis: Redis, settings: StoreSettings) -> AsyncIterator[str]:
    """The address of a replica that wants a token."""
    async with client_of(make_server(settings, **guarded_options())) as rpc, working(make_server(settings), settings):
        yield rpc.url


async def test_a_request_without_a_token_is_refused(guarded: str) -> None:
    assert (await client_with(guarded, None).post("tasks/get", {"taskId": "x"}, name="x")).status_code == 401


async def test_the_owner_follows_its_task_with_any_token_of_the_same_identity(guarded: str) -> None:
    owner = client_with(guarded, "issuer/app/ada")
    task_id = await owner.task("steps", count=2)
    assert (await owner.done(task_id))["status"] == "completed"
    assert (await client_with(guarded, "issuer/app/ada").get(task_id))["result"]["status"] == "completed"


@pytest.mark.parametrize("other", ["other/app/ada", "issuer/other/ada", "issuer/app/bob"])
@pytest.mark.requirement("owner-only", "unknown-id")
async def test_nobody_else_sees_answers_or_cancels_it(guarded: str, other: str) -> None:
    owner, stranger = client_with(guarded, "issuer/app/ada"), client_with(guarded, other)
    task_id = await owner.task("ask")
    task = await owner.until(task_id, "input_required")
    answers = {key: {"action": "decline"} for key in task["inputRequests"]}
    for method, more in (("tasks/get", {}), ("tasks/update", {"inputResponses": answers}), ("tasks/cancel", {})):
        reply = await stranger.ask(method, {"taskId": task_id, **more}, name=task_id)
        assert reply["error"]["code"] == -32602
    async with stranger.listen(taskIds=[task_id]) as frames:
        assert (await anext(frames))["params"]["notifications"] == {}
    assert (await owner.get(task_id))["result"]["status"] == "input_required"


@pytest.mark.requirement("owner-only", "unknown-id", "own-streams-only")
async def test_nobody_else_uses_a_session_or_reaches_its_tasks_by_the_methods_of_2025(guarded: str) -> None:
    mine, other = (client_with(guarded, f"issuer/app/{name}").http for name in ("ada", "bob"))
    session = await open_session(mine, guarded)
    task_id = (await session.task("stay"))["taskId"]
    stolen = Session(other, guarded, session.id, session.revision)
    assert (await stolen.post(stolen.request("ping"))).status_code == 404
    assert (await other.get(guarded, headers=stolen.headers())).status_code == 404
    assert (await other.delete(guarded, headers=stolen.headers())).status_code == 404
    own = await open_session(other, guarded)
    for method in ("tasks/get", "tasks/result", "tasks/cancel"):
        assert (await own.ask(method, taskId=task_id))["error"]["code"] == -32602
    assert (await own.ask("tasks/list"))["result"]["tasks"] == []
    for tool in ("task_wait", "task_status", "task_cancel"):
        assert (await own.call(tool, task_id=task_id))["result"]["isError"]
    again = await open_session(mine, guarded)
    assert (await again.ask("tasks/get", taskId=task_id))["result"]["status"] == "working"
    assert [task["taskId"] for task in (await again.ask("tasks/list"))["result"]["tasks"]] == [task_id]


async def test_redis_knows_a_digest_of_the_owner_and_no_token(guarded: str, redis: Redis) -> None:
    name = "ada of lovelace"  # long, because random bytes spell shorter ones
    task_id = await client_with(guarded, f"issuer/app/{name}").task("stay")
    principal = await redis.hget(Keys("taskmill").record(task_id), "principal")
    assert len(principal) == 64
    everything = b"".join([await redis.dump(key) or b"" for key in await redis.keys("*")])
    assert name.encode() not in everything
    assert b"issuer/app" not in everything


@pytest.mark.requirement("owner-only")
async def test_nobody_else_keeps_a_session_alive(guarded: str, redis: Redis) -> None:
    mine, other = (client_with(guarded, f"issuer/app/{name}").http for name in ("ada", "bob"))
    session = await open_session(mine, guarded)
    key = Keys("taskmill").session(str(session.id))
    await redis.pexpire(key, 50_000)
    stolen = Session(other, guarded, session.id, session.revision)

    assert (await stolen.post(stolen.request("ping"))).status_code == 404
    assert 0 < await redis.pttl(key) <= 50_000

    assert "result" in await session.ask("ping")
    assert await redis.pttl(key) > 50_000


class NamedByClaim:
    """A verifier that leaves the subject empty, and names the user in a claim, as some do."""

    async def verify_token(self, token: str) -> AccessToken | None:
        return AccessToken(token=token, client_id="app", scopes=[], claims={"iss": "issuer", "sub": token})


@pytest.mark.requirement("owner-only")
async def test_users_whom_only_a_claim_names_are_not_one_owner(redis: Redis, settings: StoreSettings) -> None:
    options = {**guarded_options(), "token_verifier": NamedByClaim()}
    async with client_of(make_server(settings, **options)) as rpc, working(make_server(settings), settings):
        owner = client_with(rpc.url, "ada")
        task_id = await owner.task("steps", count=1)
        assert (await client_with(rpc.url, "bob").get(task_id))["error"]["code"] == -32602
        assert (await owner.done(task_id))["status"] == "completed"
