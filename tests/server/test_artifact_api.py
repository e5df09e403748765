"""Artifacts over HTTP: whole, in ranges, unmodified - to their owner only, from any replica."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import anyio
import httpx2
import psutil
import pytest
from mcp_types import ResourceLink
from redis.asyncio import Redis

from taskmill.server import Context, TaskServer
from taskmill.store.settings import StoreSettings
from tests.support.replica import Json, Rpc, client_of, working
from tests.support.tokens import guarded_options

CONTENT = hashlib.shake_128(b"wire").digest(300_000)
ETAG = f'"{hashlib.sha256(CONTENT).hexdigest()}"'
MEGABYTE = 1024 * 1024


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> StoreSettings:
    return StoreSettings(redis_url=redis_url, artifacts=f"dir:{tmp_path}/artifacts")


def make_server(settings: StoreSettings, **options: Any) -> TaskServer[Any]:
    mcp: TaskServer[Any] = TaskServer("Artifacts", store=settings, **options)

    @mcp.tool(task=True)
    async def file(ctx: Context[Any, Any], name: str = "data.bin", size: int = len(CONTENT)) -> ResourceLink:
        async def pieces() -> AsyncIterator[bytes]:
            yield CONTENT[:size]

        return await ctx.attach(pieces(), name=name)

    return mcp


@dataclass
class Site:
    """A replica, whose callers are `desktop` users by name."""

    url: str

    def mcp(self, user: str = "ann") -> Rpc:
        return Rpc(httpx2.AsyncClient(headers=self.bearer(user), timeout=30), self.url)

    @staticmethod
    def bearer(user: str) -> dict[str, str]:
        return {"authorization": f"Bearer issuer/desktop/{user}"}

    async def link(self, **arguments: Any) -> Json:
        """The link in the result of the tool."""
        rpc = self.mcp()
        task = await rpc.done(await rpc.task("file", **arguments))
        link: Json = task["result"]["content"][0]
        return link

    async def get(self, link: Json, user: str = "ann", method: str = "GET", **headers: str) -> httpx2.Response:
        address = self.url.removesuffix("/mcp") + "/api/artifacts/" + link["uri"].rpartition("/")[2]
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with httpx2.AsyncClient(headers={**self.bearer(user), **named}) as http:
            return await http.request(method, address)


@pytest.fixture
async def site(redis: Redis, settings: StoreSettings) -> AsyncIterator[Site]:
    async with (
        client_of(make_server(settings, **guarded_options())) as rpc,
        working(make_server(settings), settings),
    ):
        yield Site(rpc.url)


async def test_the_owner_gets_the_bytes_with_their_headers(site: Site) -> None:
    reply = await site.get(await site.link(name="Größe.csv"))

    assert (reply.status_code, reply.content) == (200, CONTENT)
    disposition = reply.headers["content-disposition"]
    assert unquote(disposition.removeprefix("attachment; filename*=UTF-8''")) == "Größe.csv"
    assert {name: reply.headers[name] for name in ("content-type", "content-length", "etag", "accept-ranges")} == {
        "content-type": "text/csv; charset=utf-8",
        "content-length": "300000",
        "etag": ETAG,
        "accept-ranges": "bytes",
    }


async def test_an_artifact_cannot_run_as_a_page_of_the_server(site: Site) -> None:
    headers = (await site.get(await site.link(name="page.html"))).headers
    assert headers["content-disposition"].startswith("attachment;")
    assert headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert headers["x-content-type-options"] == "nosniff"


async def test_any_replica_serves_an_artifact(site: Site, settings: StoreSettings) -> None:
    link = await site.link()
    async with client_of(make_server(settings, **guarded_options())) as other:
        assert (await Site(other.url).get(link)).content == CONTENT


async def test_only_the_owner_finds_an_artifact(site: Site) -> None:
    """The same answer for an artifact of another principal and for an unknown one."""
    link = await site.link()
    foreign, unknown = await site.get(link, user="bob"), await site.get({"uri": "taskmill://artifact/x"})
    assert (foreign.status_code, unknown.status_code, foreign.text) == (404, 404, unknown.text)

    read = await site.mcp("bob").ask("resources/read", {"uri": link["uri"]}, name=link["uri"])
    assert read["error"]["code"] == -32602
    async with httpx2.AsyncClient() as http:
        nobody = await http.get(site.url.removesuffix("/mcp") + "/api/artifacts/x")
    assert nobody.status_code == 401


async def test_head_gives_all_headers_and_no_body(site: Site) -> None:
    reply = await site.get(await site.link(), method="HEAD")
    assert (reply.status_code, reply.headers["content-length"], reply.content) == (200, "300000", b"")


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-299999", 100, 300_000),
        ("bytes=299999-", 299_999, 300_000),
        ("bytes=5-999999999", 5, 300_000),
        ("bytes=-7", 299_993, 300_000),
        ("bytes=-999999999999", 0, 300_000),
        ("Bytes = 10 - 19", 10, 20),
    ],
)
async def test_a_range_is_served(site: Site, asked: str, start: int, stop: int) -> None:
    reply = await site.get(await site.link(), range=asked)

    assert reply.content == CONTENT[start:stop]
    is_all = (start, stop) == (0, len(CONTENT))
    assert reply.status_code == (200 if is_all else 206)
    assert reply.headers.get("content-range") == (None if is_all else f"bytes {start}-{stop - 1}/300000")
    assert reply.headers["content-length"] == str(stop - start)


@pytest.mark.parametrize("asked", ["bytes=9-5", "bytes=0-1,5-6", "rows=1-2", "bytes=-", "bytes=a-b", "bytes", ""])
async def test_a_malformed_range_is_ignored(site: Site, asked: str) -> None:
    """RFC 9110, 14.2: a server may ignore a range."""
    reply = await site.get(await site.link(), range=asked)
    assert (reply.status_code, len(reply.content)) == (200, 300_000)


@pytest.mark.parametrize("asked", ["bytes=300000-", "bytes=400000-500000", "bytes=-0"])
async def test_a_range_beyond_the_end_is_416(site: Site, asked: str) -> None:
    reply = await site.get(await site.link(), range=asked)
    assert (reply.status_code, reply.headers["content-range"], reply.content) == (416, "bytes */300000", b"")


async def test_an_unmodified_artifact_is_not_sent_again(site: Site) -> None:
    link = await site.link()
    for named in (ETAG, f'"x", W/{ETAG}', "*"):
        reply = await site.get(link, if_none_match=named)
        assert (reply.status_code, reply.content, reply.headers["etag"]) == (304, b"", ETAG)
    assert (await site.get(link, if_none_match='"other"')).status_code == 200


async def test_a_range_of_a_changed_artifact_is_the_whole(site: Site) -> None:
    link = await site.link()
    assert (await site.get(link, range="bytes=0-9", if_range=ETAG)).status_code == 206
    assert (await site.get(link, range="bytes=0-9", if_range='"other"')).status_code == 200


async def test_an_empty_artifact_is_served(site: Site) -> None:
    link = await site.link(size=0)
    reply = await site.get(link)
    assert (reply.status_code, reply.content) == (200, b"")
    assert (await site.get(link, range="bytes=0-")).status_code == 416


async def test_missing_bytes_are_an_error_and_no_incomplete_reply(site: Site, settings: StoreSettings) -> None:
    link = await site.link()
    (file,) = [path for path in Path(settings.artifacts.removeprefix("dir:")).rglob("*") if path.is_file()]
    file.unlink()
    reply = await site.get(link)
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "internal")


@pytest.mark.slow
async def test_two_hundred_megabytes_reach_the_client_and_no_process_grows(
    redis: Redis, settings: StoreSettings, tmp_path: Path
) -> None:
    """Server and worker are processes of their own; both stay under 32 MB more than before."""
    size = 200 * MEGABYTE
    (tmp_path / "app.py").write_text(_BIG)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("TASKMILL_")},
        "TASKMILL_REDIS_URL": str(settings.redis_url),
        "TASKMILL_ARTIFACTS": settings.artifacts,
    }
    command = [sys.executable, "-m", "taskmill.cli.main"]
    log = (tmp_path / "log").open("wb")
    start: dict[str, Any] = {"env": environment, "cwd": tmp_path, "stdout": log, "stderr": log}
    with (
        log,
        subprocess.Popen([*command, "serve", "app.py", "--port", "0"], **start) as server,
        subprocess.Popen([*command, "worker", "app.py"], **start) as worker,
    ):
        try:
            async with httpx2.AsyncClient(timeout=60) as http:
                rpc = Rpc(http, await _address(tmp_path / "log") + "/mcp")
                await rpc.done(await rpc.task("big", size=MEGABYTE))  # late imports happen now
                before = {process.pid: psutil.Process(process.pid).memory_info().rss for process in (server, worker)}
                peaks = dict(before)
                task_id = await rpc.task("big", size=size)
                while (task := (await rpc.get(task_id))["result"])["status"] == "working":
                    _note(peaks)
                    await anyio.sleep(0.02)
                link = task["result"]["content"][0]
                digest = hashlib.sha256()
                address = rpc.url.removesuffix("/mcp") + "/api/artifacts/" + link["uri"].rpartition("/")[2]
                async with http.stream("GET", address) as reply:
                    async for piece in reply.aiter_bytes(MEGABYTE):
                        digest.update(piece)
                        _note(peaks)
                wanted = hashlib.sha256()
                for number in range(size // MEGABYTE):
                    wanted.update(number.to_bytes(4, "big") * (MEGABYTE // 4))
                assert digest.hexdigest() == wanted.hexdigest()
                grown = {pid: round((peaks[pid] - before[pid]) / MEGABYTE, 1) for pid in before}
                assert max(grown.values()) < 32, grown
                print(f"grown by MB: server {grown[server.pid]}, worker {grown[worker.pid]}")
        finally:
            server.terminate()
            worker.terminate()


def _note(peaks: dict[int, int]) -> None:
    for pid in peaks:
        peaks[pid] = max(peaks[pid], psutil.Process(pid).memory_info().rss)


async def _address(log: Path) -> str:
    """The address that the server reports."""
    with anyio.fail_after(30):
        while True:
            for word in log.read_text().replace("\x1b", " ").split():
                if word.startswith("http://127.0.0.1:"):
                    return word.removesuffix("/mcp").rstrip("/.,")
                if word.startswith("url=http://127.0.0.1:"):
                    return word.removeprefix("url=").removesuffix("/mcp")
            await anyio.sleep(0.05)


_BIG = f"""
from taskmill.server import Context, TaskServer
from mcp_types import ResourceLink
mcp = TaskServer("Big")

@mcp.tool(task=True)
async def big(size: int, ctx: Context) -> ResourceLink:
    async def pieces():
        for number in range(size // {MEGABYTE}):
            yield number.to_bytes(4, "big") * {MEGABYTE // 4}
    return await ctx.attach(pieces(), name="big.bin")
"""


async def test_errors_of_artifacts_have_the_apis_shape(site: Site) -> None:
    reply = await site.get({"uri": "taskmill://artifact/" + "x" * 500})
    assert (reply.status_code, json.loads(reply.text)["error"]["code"]) == (404, "not_found")
