"""Verifiers of an author's: what goes wrong in one is told in words, and never makes one caller of many."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from mcp.server.auth.provider import AccessToken
from redis.asyncio import Redis
from structlog.testing import capture_logs

from taskmill.server import TaskConfig
from taskmill.server.settings import ServerSettings
from tests.server.api_client import client_with
from tests.server.session_client import open_session
from tests.support.replica import Rpc, client_of
from tests.support.sample_server import make_server
from tests.support.tokens import guarded_options


class Verifier:
    """Answers with what a test says, and raises it if it is an error."""

    def __init__(self, answer: dict[str, Any] | Exception) -> None:
        self.answer = answer

    async def verify_token(self, token: str) -> AccessToken | None:
        if isinstance(self.answer, Exception):
            raise self.answer
        return AccessToken(token=token, client_id="app", scopes=token.split("+")[1:], **self.answer)


@asynccontextmanager
async def verified_by(settings: ServerSettings, answer: dict[str, Any] | Exception, **more: Any) -> AsyncIterator[Rpc]:
    """A client with a token, of a replica with that verifier."""
    options = {**guarded_options(), "token_verifier": Verifier(answer)}
    server = make_server(settings.model_copy(update=more), **options)

    @server.tool(task=TaskConfig(scopes=["rows:write"]))
    async def erase() -> str:
        return "erased"

    async with client_of(server) as rpc:
        yield client_with(rpc.url, "token")


async def test_one_that_raises_is_a_503_in_words_and_one_traceback(redis: Redis, settings: ServerSettings) -> None:
    with capture_logs() as logs:
        async with verified_by(settings, ConnectionError("https://inner.example is down")) as rpc:
            for _ in range(3):
                answer = await rpc.post("tools/list", {})
                assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
                assert "try again" in answer.json()["error"]["message"]
                assert "inner.example" not in answer.text
    failures = [entry for entry in logs if entry["event"] == "auth.verifier_failed"]
    assert [entry["exc_info"] is not None for entry in failures] == [True, False, False]


async def test_a_token_without_a_user_is_refused(redis: Redis, settings: ServerSettings) -> None:
    async with verified_by(settings, {"claims": {"iss": "issuer"}}) as rpc:
        answer = await rpc.post("tools/list", {})
        assert answer.status_code == 401
        assert "TASKMILL_AUTH_ALLOW_CLIENT_TOKENS" in answer.json()["error_description"]
    async with verified_by(settings, {"claims": {"iss": "issuer"}}, auth_allow_client_tokens=True) as rpc:
        assert (await rpc.post("tools/list", {})).status_code == 200


async def test_a_token_without_an_issuer_is_logged_once(redis: Redis, settings: ServerSettings) -> None:
    with capture_logs() as logs:
        async with verified_by(settings, {"subject": "ada"}) as rpc:
            for _ in range(2):
                assert (await rpc.post("tools/list", {})).status_code == 200
    assert [entry["event"] for entry in logs].count("auth.token_without_issuer") == 1


async def test_it_wins_over_the_settings_and_that_is_logged(redis: Redis, settings: ServerSettings) -> None:
    with capture_logs() as logs:
        given = {"auth_issuer": "https://login.example.com", "auth_audience": ("x",)}
        async with verified_by(settings, {"subject": "ada"}, **given) as rpc:
            assert (await rpc.post("tools/list", {})).status_code == 200
    assert "auth.settings_unused" in [entry["event"] for entry in logs]


async def test_its_challenges_and_metadata_name_the_scopes_of_the_tools(redis: Redis, settings: ServerSettings) -> None:
    async with verified_by(settings, {"subject": "ada"}) as rpc:
        async with httpx2.AsyncClient() as http:
            refused = await http.post(rpc.url, **rpc.request("tools/list", {}))
            assert refused.json()["error_description"].startswith("This server needs an access token")
            document = await http.get(rpc.url.replace("/mcp", "/.well-known/oauth-protected-resource/mcp"))
        assert 'scope="rows:write"' in refused.headers["www-authenticate"]
        assert refused.headers["www-authenticate"].count("resource_metadata=") == 1
        assert document.json()["scopes_supported"] == ["rows:write"]


class TestToolList:
    async def names(self, url: str, token: str) -> set[str]:
        """The tools in every dialect; all must agree."""
        modern = client_with(url, token)
        lists = [(await one.ask("tools/list", {}))["result"]["tools"] for one in (modern, modern.without_tasks())]
        for revision in ("2025-11-25", "2025-06-18"):
            session = await open_session(modern.http, url, revision=revision)
            lists.append((await session.ask("tools/list"))["result"]["tools"])
        listed = [{tool["name"] for tool in tools} for tools in lists]
        assert all(("erase" in names) == ("erase" in listed[0]) for names in listed)
        assert all("hello" in names for names in listed)
        return listed[0]

    async def test_a_tool_whose_scope_the_caller_lacks_is_not_listed(
        self, redis: Redis, settings: ServerSettings
    ) -> None:
        async with verified_by(settings, {"subject": "ada"}) as rpc:
            assert "erase" not in await self.names(rpc.url, "token")
            assert "erase" in await self.names(rpc.url, "token+rows:write")


@pytest.mark.parametrize("claims", [{"sub": "ada"}, {"sub": "bob"}])
async def test_a_user_whom_only_a_claim_names_is_the_owner_everywhere(
    redis: Redis, settings: ServerSettings, claims: dict[str, str]
) -> None:
    async with verified_by(settings, {"claims": {"iss": "issuer", **claims}}) as rpc:
        task_id = await rpc.task("stay")
        same = client_with(rpc.url, "another-token")
        assert (await same.get(task_id))["result"]["status"] == "working"
        api = await rpc.http.get(rpc.url.replace("/mcp", f"/api/tasks/{task_id}"))
        assert api.status_code == 200
