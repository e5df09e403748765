"""FastMCP's ways to know a caller, with task tools: JWT, remote OAuth, an OAuth proxy with consent, full OAuth."""

import base64
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from fastmcp import FastMCP
from redis.asyncio import Redis

from taskmill.testing import ClientKind, TestBed
from tests.adapters.fastmcp_howto import declared, in_foreground, in_halves
from tests.adapters.fastmcp_issuer import Issuer
from tests.support.replica import Rpc, serving

BedOf = Callable[..., TestBed]
Json = dict[str, Any]
JWT, REMOTE, PROXY, FULL = "Tokens: JWT verification", "Remote OAuth", "OAuth proxy with consent", "Full OAuth"
OWN = "http://127.0.0.1:8000"
CALLBACK = "http://127.0.0.1:9/callback"
VERIFIER = "a-verifier-of-at-least-forty-three-characters-in-all"


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    made = Issuer()
    async with serving(made.app) as made.url:
        yield made


def server(heading: str, issuer: Issuer, *, tasks: bool = True, **more: str) -> FastMCP[Any]:
    """The server of the page, whose login is the issuer."""
    mcp: FastMCP[Any] = declared(heading, tasks=tasks, swap={"https://login.example.com": issuer.url, **more})["mcp"]
    return mcp


async def test_a_worker_has_what_a_jwt_says_of_the_caller(issuer: Issuer, bed_of: BedOf, redis: Redis) -> None:
    token = issuer.token("ann", "read", "write", claims={"team": "blue"})
    async with bed_of(server(JWT, issuer)) as bed:
        halves = await in_halves(bed, [], "report", token=token)
        dumped = b"".join([await redis.dump(key) or b"" for key in await redis.keys()])
    assert halves.result == await in_foreground(server(JWT, issuer, tasks=False), "report", token=token)
    known = {"user": "ann", "team": "blue", "scopes": ["read", "write"], "client": "one-client"}
    assert halves.result["structured_content"] == known
    assert token.encode() not in dumped


async def test_a_jwt_without_the_scope_makes_no_task_and_one_of_another_issuer_is_refused(
    issuer: Issuer, bed_of: BedOf
) -> None:
    other = Issuer()
    other.url = issuer.url  # it says so, but has another key
    async with bed_of(server(JWT, issuer)) as bed, httpx2.AsyncClient(timeout=30) as http:
        http.headers["authorization"] = f"Bearer {issuer.token('bob', 'read')}"
        assert "Unknown tool" in str(await Rpc(http, bed.url).call("report"))
        http.headers["authorization"] = f"Bearer {other.token('ann', 'write')}"
        refused = await Rpc(http, bed.url).post("tools/call", {"name": "report", "arguments": {}}, name="report")
        assert await bed.task_ids() == []
    assert refused.status_code == 401


async def test_two_subjects_of_one_client_have_tasks_of_their_own(issuer: Issuer, bed_of: BedOf) -> None:
    async with bed_of(server(JWT, issuer)) as bed, httpx2.AsyncClient(timeout=30) as http:
        rpc = Rpc(http, bed.url)
        http.headers["authorization"] = f"Bearer {issuer.token('ann', 'write')}"
        task_id = await rpc.task("report")
        assert (await rpc.done(task_id))["status"] == "completed"
        http.headers["authorization"] = f"Bearer {issuer.token('bob', 'write')}"
        assert "error" in await rpc.get(task_id)


async def test_a_caller_without_a_token_is_led_to_the_metadata_and_to_the_authorization_server(
    issuer: Issuer, bed_of: BedOf
) -> None:
    async with bed_of(server(REMOTE, issuer)) as bed, httpx2.AsyncClient(timeout=30) as http:
        root = bed.url.removesuffix("/mcp")
        refused = await Rpc(http, bed.url).post("tools/call", {"name": "report", "arguments": {}}, name="report")
        by_api = await http.get(f"{root}/api/tasks")
        named = re.findall(r'resource_metadata="([^"]+)"', refused.headers["www-authenticate"])
        metadata = (await http.get(root + urlsplit(named[0]).path)).json()
    assert (refused.status_code, by_api.status_code) == (401, 401)
    assert named == ["https://reports.example.com/.well-known/oauth-protected-resource/mcp"]
    assert re.findall(r'resource_metadata="([^"]+)"', by_api.headers["www-authenticate"]) == named
    assert metadata["resource"] == "https://reports.example.com/mcp"
    assert metadata["authorization_servers"] == [f"{issuer.url}/"]


@pytest.mark.parametrize("kind", [ClientKind.TASKS_2026, ClientKind.TASKS_2025, ClientKind.HELD])
async def test_a_token_of_a_remote_authorization_server_is_the_callers_in_the_worker(
    kind: ClientKind, issuer: Issuer, bed_of: BedOf
) -> None:
    token = issuer.token("ann", "write")
    async with bed_of(server(REMOTE, issuer)) as bed, bed.client(kind, token=token) as client:
        answer = await client.call("report")
    alone = await in_foreground(server(REMOTE, issuer, tasks=False), "report", token=token)
    assert answer.text == alone["content"][0]["text"] == "the report of ann"


class Browser:
    """A client and its user's browser: registers, logs in, and gets a token. Addresses of the page lead to `root`."""

    def __init__(self, http: httpx2.AsyncClient, root: str, **asks: str) -> None:
        self.http = http
        self.root = root
        self.asks = asks
        self.pages: list[str] = []

    async def token(self) -> str:
        """The access token of a user who agrees to everything."""
        metadata = (await self.http.get(f"{self.root}/.well-known/oauth-authorization-server")).json()
        wanted = {"redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none", "client_name": "tests"}
        registered = (await self._post(metadata["registration_endpoint"], json=wanted)).json()
        challenge = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
        query = {
            "response_type": "code",
            "client_id": registered["client_id"],
            "redirect_uri": CALLBACK,
            "state": "mine",
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            **self.asks,
        }
        answer = await self._follow(await self.http.get(self._here(metadata["authorization_endpoint"]), params=query))
        code = parse_qs(urlsplit(answer).query)["code"][0]
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": CALLBACK,
            "client_id": registered["client_id"],
            "code_verifier": VERIFIER,
        }
        return str((await self._post(metadata["token_endpoint"], data=form)).json()["access_token"])

    async def _follow(self, page: httpx2.Response) -> str:
        """Follow redirects, and agree where a page asks, until the client's own address is reached."""
        while not page.headers.get("location", "").startswith(CALLBACK):
            if page.is_redirect:
                page = await self.http.get(self._here(page.headers["location"]))
                continue
            assert page.status_code == 200, page.text
            self.pages.append(page.text)
            fields = dict(re.findall(r'name="(txn_id|csrf_token)" value="([^"]+)"', page.text))
            page = await self.http.post(f"{self.root}/consent", data={**fields, "action": "approve"})
        return page.headers["location"]

    async def _post(self, url: str, **content: Any) -> httpx2.Response:
        response = await self.http.post(self._here(url), **content)
        response.raise_for_status()
        return response

    def _here(self, url: str) -> str:
        return self.root + url.removeprefix(OWN) if url.startswith((OWN, "/")) else url


async def test_a_user_of_an_oauth_proxy_agrees_and_is_known_in_the_worker(
    issuer: Issuer, bed_of: BedOf, redis: Redis, redis_url: str
) -> None:
    mcp = server(PROXY, issuer, **{"redis://127.0.0.1:6379": redis_url})
    async with bed_of(mcp) as bed, httpx2.AsyncClient(timeout=30) as http:
        browser = Browser(http, bed.url.removesuffix("/mcp"))
        token = await browser.token()
        halves = await in_halves(bed, [], "report", token=token)
        # Another replica, with a proxy of its own, knows who logged in at the first.
        async with bed_of(server(PROXY, issuer, **{"redis://127.0.0.1:6379": redis_url})) as other:
            at_other = await in_halves(other, [], "report", token=token)
        dumped = b"".join([await redis.dump(key) or b"" for key in await redis.keys()])
    assert at_other.result == halves.result
    alone = server(PROXY, issuer, tasks=False, **{"redis://127.0.0.1:6379": redis_url})
    assert halves.result == await in_foreground(alone, "report", token=token)  # the storage is shared
    assert halves.result["content"][0]["text"] == "the report of ann"
    assert len(browser.pages) == 1
    assert "tests" in browser.pages[0]
    assert [one for one in (token, *issuer.given) if one.encode() in dumped] == []


async def test_a_client_of_a_server_that_gives_its_own_tokens_is_known_in_the_worker(bed_of: BedOf) -> None:
    mcp: FastMCP[Any] = declared(FULL)["mcp"]
    async with bed_of(mcp) as bed, httpx2.AsyncClient(timeout=30) as http:
        root = bed.url.removesuffix("/mcp")
        refused = await http.get(f"{root}/api/tasks")
        token = await Browser(http, root, scope="write").token()
        halves = await in_halves(bed, [], "report", token=token)
        listed = await http.get(f"{root}/api/tasks", headers={"authorization": f"Bearer {token}"})
    known = await mcp.auth.verify_token(token) if mcp.auth else None
    assert known is not None
    assert halves.result["structured_content"] == {"client": known.client_id, "scopes": ["write"]}
    alone: FastMCP[Any] = declared(FULL, tasks=False)["mcp"]
    alone.auth = mcp.auth
    assert halves.result == await in_foreground(alone, "report", token=token)
    assert refused.status_code == 401
    assert len(listed.json()["tasks"]) == 1
