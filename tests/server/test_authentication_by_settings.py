"""Authentication by settings alone: good tokens pass, bad ones are refused in words, an outage is told from both.

Sources: RFC 6750, 7519, 7662, 8414, 8725, 9068, 9728; MCP authorization 2026-07-28.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from taskmill.engine.errors import SettingsError
from taskmill.server import TaskConfig, TaskServer
from taskmill.server.auth.issuer_keys import IssuerKeys
from taskmill.server.settings import ServerSettings
from tests.server.api_client import bearer, client_with
from tests.support.bad_tokens import BAD_TOKENS
from tests.support.issuer import AUDIENCE, Issuer
from tests.support.issuer import issuer as issuer
from tests.support.replica import Json, client_of, working
from tests.support.sample_server import make_server

PING: tuple[str, Json] = ("tools/list", {})
_ISSUER = {"auth_issuer": "https://a.example", "auth_audience": ("x",)}


@asynccontextmanager
async def guarded(settings: ServerSettings, issuer: Issuer, **more: Any) -> AsyncIterator[str]:
    """The URL of a replica whose settings name the issuer; its tool `erase` needs a scope."""
    given: Json = {"auth_issuer": issuer.url, "auth_audience": (AUDIENCE,), **more}
    server = make_server(settings.model_copy(update=given))
    add_scoped(server)
    async with client_of(server) as rpc:
        yield rpc.url


def add_scoped(server: TaskServer[Any]) -> None:
    @server.tool(task=TaskConfig(scopes=["rows:write"]))
    async def erase() -> str:
        return "erased"


async def status(url: str, token: str | None) -> int:
    return (await client_with(url, token).post(*PING)).status_code


@pytest.fixture
async def url(redis: Redis, settings: ServerSettings, issuer: Issuer) -> AsyncIterator[str]:
    async with guarded(settings, issuer) as url:
        yield url


async def test_a_good_token_passes_and_names_its_owner(url: str, issuer: Issuer, settings: ServerSettings) -> None:
    owner = client_with(url, issuer.token())
    async with working(make_server(settings), settings):
        task_id = await owner.task("steps", count=1)
        assert (await owner.done(task_id))["status"] == "completed"
    assert "result" in await client_with(url, issuer.token()).get(task_id), "another token of the same user"
    for other in (issuer.token("bob"), issuer.token(client_id="other")):
        assert (await client_with(url, other).get(task_id))["error"]["code"] == -32602


async def test_every_bad_token_is_refused_and_told_why(url: str, issuer: Issuer) -> None:
    assert len(BAD_TOKENS) >= 25
    for name, made in BAD_TOKENS.items():
        refused = await client_with(url, made(issuer)).post(*PING)
        assert refused.status_code == 401, name
        assert refused.json()["error"] == "invalid_token", name
        assert "token" in refused.json()["error_description"], name
        assert "Authentication required" not in refused.text, name
        assert 'error="invalid_token"' in refused.headers["www-authenticate"], name
    assert await status(url, issuer.token()) == 200


async def test_the_clocks_may_differ_by_the_leeway(url: str, issuer: Issuer) -> None:
    now = int(time.time())
    assert await status(url, issuer.token(exp=now - 10)) == 200
    assert await status(url, issuer.token(nbf=now + 10, iat=now + 10)) == 200


async def test_a_key_that_is_exchanged_is_fetched_once(redis: Redis, settings: ServerSettings, issuer: Issuer) -> None:
    clock = [0.0]
    keys = IssuerKeys(issuer.url, None, cool_down=5.0, clock=lambda: clock[0])
    assert await keys.find("key-1", "RS256") is not None
    issuer.rotate()
    assert await keys.find("key-2", "RS256") is None, "within the cool-down"
    clock[0] += 6
    assert await keys.find("key-2", "RS256") is not None
    for made_up in range(20):
        assert await keys.find(f"made-up-{made_up}", "RS256") is None
    assert issuer.requests["/keys"] == 2


async def test_keys_are_renewed_beside_the_requests_that_use_them(issuer: Issuer) -> None:
    clock = [0.0]
    keys = IssuerKeys(issuer.url, f"{issuer.url}/keys", renew_after=100, clock=lambda: clock[0])
    assert await keys.find("key-1", "RS256") is not None
    issuer.rotate()
    clock[0] += 101
    assert await keys.find("key-1", "RS256") is not None, "the old key, while the new ones are fetched"
    assert await keys.find("key-2", "RS256") is not None
    assert issuer.requests["/keys"] == 2
    assert await keys.find("key-1", "RS256") is None, "a key that the issuer has withdrawn"


async def test_known_keys_outlive_an_outage_of_their_issuer(url: str, issuer: Issuer) -> None:
    assert await status(url, issuer.token()) == 200
    with issuer.away():
        assert await status(url, issuer.token("bob")) == 200


async def test_an_outage_before_any_key_is_known_is_a_503_that_says_when(url: str, issuer: Issuer) -> None:
    with issuer.away():
        for _ in range(3):
            away = await client_with(url, issuer.token()).post(*PING)
            assert away.status_code == 503
            assert 1 <= int(away.headers["retry-after"]) <= 60
            assert "try again" in away.json()["error"]["message"]
            assert issuer.url not in away.text
        api = await client_with(url, None).http.get(url.replace("/mcp", "/api/tasks"), headers=bearer(issuer.token()))
        assert (api.status_code, api.json()["error"]["code"]) == (503, "authentication_unavailable")
    assert sum(issuer.requests.values()) <= 4, "one attempt, not one for each request"


@pytest.mark.parametrize(
    "document", [{}, {"keys": {}}, {"keys": [{}] * 101}, {"keys": [{"kty": "RSA", "kid": "key-1"}]}]
)
async def test_a_document_without_usable_keys_accepts_no_one(url: str, issuer: Issuer, document: Json) -> None:
    issuer.document = document
    assert await status(url, issuer.token()) in (401, 503)


async def test_metadata_of_another_issuer_are_not_believed(
    redis: Redis, settings: ServerSettings, issuer: Issuer
) -> None:
    async with guarded(settings, issuer, auth_issuer=issuer.url + "/tenant") as url:
        assert await status(url, issuer.token(iss=issuer.url + "/tenant")) == 503


async def test_a_key_of_the_settings_needs_no_issuer_within_reach(
    redis: Redis, settings: ServerSettings, issuer: Issuer, tmp_path: Any
) -> None:
    (tmp_path / "key.pem").write_text(issuer.pem)
    for key in (issuer.pem, str(tmp_path / "key.pem")):
        async with guarded(settings, issuer, auth_public_key=key) as url:
            with issuer.away():
                assert await status(url, issuer.token()) == 200
                assert await status(url, BAD_TOKENS["changed claims"](issuer)) == 401
    assert not issuer.requests


class TestChallenges:
    async def test_one_without_a_token_learns_where_to_get_one_and_for_what(self, url: str, issuer: Issuer) -> None:
        refused = await client_with(url, None).post(*PING)
        challenge = refused.headers["www-authenticate"]
        metadata_url = url.replace("/mcp", "/.well-known/oauth-protected-resource/mcp")
        assert refused.status_code == 401
        assert 'scope="rows:write"' in challenge
        assert f'resource_metadata="{metadata_url}"' in challenge
        document = (await client_with(url, None).http.get(metadata_url)).json()
        assert document == {
            "resource": url,
            "authorization_servers": [issuer.url],
            "bearer_methods_supported": ["header"],
            "scopes_supported": ["rows:write"],
        }

    async def test_required_scopes_are_named_with_those_of_the_tools(
        self, redis: Redis, settings: ServerSettings, issuer: Issuer
    ) -> None:
        async with guarded(
            settings, issuer, auth_required_scopes=("mcp",), auth_resource="https://t.example/mcp"
        ) as url:
            missing = await client_with(url, issuer.token(scope="other")).post(*PING)
            assert missing.status_code == 403
            assert 'scope="mcp"' in missing.headers["www-authenticate"]
            named = "https://t.example/.well-known/oauth-protected-resource/mcp"
            assert f'resource_metadata="{named}"' in missing.headers["www-authenticate"]
            document = await client_with(url, None).http.get(
                url.replace("/mcp", "/.well-known/oauth-protected-resource/mcp")
            )
            assert document.json()["resource"] == "https://t.example/mcp"
            assert document.json()["scopes_supported"] == ["mcp", "rows:write"]
            assert await status(url, issuer.token(scope="mcp")) == 200

    async def test_a_call_without_the_scope_is_told_which(self, url: str, issuer: Issuer) -> None:
        refused = await client_with(url, issuer.token()).post(
            "tools/call", {"name": "erase", "arguments": {}}, name="erase"
        )
        challenge = refused.headers["www-authenticate"]
        assert (refused.status_code, 'scope="rows:write"' in challenge) == (403, True)
        assert "resource_metadata=" in challenge

    async def test_the_http_api_challenges_likewise(self, url: str) -> None:
        refused = await client_with(url, None).http.get(url.replace("/mcp", "/api/tasks"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_token")
        assert "resource_metadata=" in refused.headers["www-authenticate"]


class TestClientTokens:
    async def test_one_is_accepted_where_the_operator_allows_it(
        self, redis: Redis, settings: ServerSettings, issuer: Issuer
    ) -> None:
        async with guarded(settings, issuer, auth_allow_client_tokens=True) as url:
            assert await status(url, issuer.token(sub=None)) == 200

    async def test_a_refusal_names_the_setting(self, url: str, issuer: Issuer) -> None:
        refused = await client_with(url, issuer.token(sub=None)).post(*PING)
        assert "TASKMILL_AUTH_ALLOW_CLIENT_TOKENS" in refused.json()["error_description"]


def _asks(issuer: Issuer) -> dict[str, str]:
    """The settings of a server that asks the issuer about tokens."""
    return {
        "auth_introspection_url": f"{issuer.url}/introspect",
        "auth_introspection_client_id": issuer.client[0],
        "auth_introspection_client_secret": issuer.client[1],
    }


class TestIntrospection:
    @pytest.fixture
    async def url(self, redis: Redis, settings: ServerSettings, issuer: Issuer) -> AsyncIterator[str]:
        async with guarded(settings, issuer, **_asks(issuer)) as url:
            yield url

    async def test_the_issuer_says_which_tokens_are_good(self, url: str, issuer: Issuer) -> None:
        good = {"active": True, "sub": "ada", "client_id": "app", "aud": AUDIENCE, "exp": int(time.time()) + 60}
        cases = {
            "good": (good, 200),
            "unknown": ({"active": False}, 401),
            "a word": ({**good, "active": "true"}, 401),
            "no user": ({**good, "sub": None}, 401),
            "another audience": ({**good, "aud": ["other"]}, 401),
            "no audience": ({**good, "aud": None}, 401),
            "a number for audience": ({**good, "aud": 7}, 401),
            "another issuer": ({**good, "iss": "https://login.example.com"}, 401),
            "expired": ({**good, "exp": int(time.time()) - 100}, 401),
            "an end that is no time": ({**good, "exp": "soon"}, 401),
            "not valid yet": ({**good, "nbf": int(time.time()) + 100}, 401),
            "a refresh token": ({**good, "token_type": "refresh_token"}, 401),
        }
        issuer.active = {name: answer for name, (answer, _) in cases.items()}
        assert {name: await status(url, name) for name in cases} == {
            name: wanted for name, (_, wanted) in cases.items()
        }

    @pytest.mark.parametrize("where", ["client_secret_basic", "client_secret_post"])
    async def test_the_secret_is_shown_where_the_issuer_wants_it(
        self, settings: ServerSettings, redis: Redis, issuer: Issuer, where: str
    ) -> None:
        issuer.secret_in_body = where == "client_secret_post"
        issuer.active["opaque"] = {"active": True, "sub": "ada", "aud": AUDIENCE}
        async with guarded(settings, issuer, **_asks(issuer), auth_introspection_client_auth=where) as url:
            assert await status(url, "opaque") == 200

    async def test_an_answer_counts_for_a_while_also_in_an_outage(self, url: str, issuer: Issuer) -> None:
        issuer.active["opaque"] = {"active": True, "sub": "ada", "aud": AUDIENCE}
        assert [await status(url, "opaque") for _ in range(3)] == [200, 200, 200]
        assert issuer.requests["/introspect"] == 1
        with issuer.away():
            assert await status(url, "opaque") == 200
            away = await client_with(url, "another").post(*PING)
            assert (away.status_code, "retry-after" in away.headers) == (503, True)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"auth_audience": ("x",)}, "TASKMILL_AUTH_ISSUER"),
        ({"auth_required_scopes": ("x",)}, "TASKMILL_AUTH_ISSUER"),
        ({"auth_issuer": "https://a.example"}, "TASKMILL_AUTH_AUDIENCE"),
        ({"auth_issuer": "http://a.example", "auth_audience": ("x",)}, "Write https"),
        (
            {"auth_issuer": "https://a.example", "auth_audience": ("x",), "auth_public_key": "-----BEGIN X"},
            "no public key",
        ),
        ({"auth_issuer": "https://a.example", "auth_audience": ("x",), "auth_public_key": "nowhere.pem"}, "neither"),
        ({"auth_issuer": "https://a.example", "auth_introspection_url": "https://a.example/i"}, "CLIENT_ID"),
    ],
)
def test_settings_that_would_leave_a_server_open_stop_it(settings: ServerSettings, given: Json, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        make_server(ServerSettings(**settings.model_dump(exclude_unset=True), **given)).http_app()


@pytest.mark.parametrize("name", ["none", "HS256", "RS256,HS512", "", "RS999"])
def test_algorithms_of_shared_secrets_cannot_be_set(name: str) -> None:
    with pytest.raises(ValueError, match="RS256"):
        ServerSettings(auth_algorithms=name)
