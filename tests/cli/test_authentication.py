"""Authentication and operators by settings, with real server processes and an issuer of the test's own."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.bad_tokens import BAD_TOKENS
from tests.support.command_line import CommandLine
from tests.support.issuer import AUDIENCE, Issuer, running_issuer
from tests.support.waiting import WAIT_SECONDS, eventually

SERVER = """
from taskmill.server import TaskServer

mcp = TaskServer("Tests")

@mcp.tool()
async def hello(name: str) -> str:
    return f"Hello, {name}!"

if __name__ == "__main__":
    mcp.run("http", port=0)
"""
FASTMCP = SERVER.replace("from taskmill.server import TaskServer", "from fastmcp import FastMCP").replace(
    "TaskServer(", "FastMCP("
)
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "tests", "version": "1"},
    },
}


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """An issuer in a thread: the servers are other processes."""
    found: list[Issuer] = []
    is_ready, is_over = threading.Event(), threading.Event()

    async def run() -> None:
        async with running_issuer() as running:
            found.append(running)
            is_ready.set()
            await asyncio.to_thread(is_over.wait)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert is_ready.wait(WAIT_SECONDS)
    try:
        yield found[0]
    finally:
        is_over.set()
        thread.join()


def initialize(url: str, token: str | None) -> httpx2.Response:
    headers = {"accept": "application/json, text/event-stream"}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    return httpx2.post(url, json=INITIALIZE, headers=headers, timeout=WAIT_SECONDS)


@pytest.mark.slow
@pytest.mark.parametrize("text", [SERVER, FASTMCP], ids=["TaskServer", "FastMCP"])
def test_two_settings_close_a_server(cli: CommandLine, issuer: Issuer, text: str) -> None:
    cli.write("server.py", text)
    given = {"TASKMILL_AUTH_ISSUER": issuer.url, "TASKMILL_AUTH_AUDIENCE": AUDIENCE}
    with cli.started("serve", "server.py", "--port", "0", **given) as server:
        eventually(lambda: issuer.requests["/keys"] == 1)  # before the first token
        url = server.url()
        assert initialize(url, issuer.token()).status_code == 200
        without = initialize(url, None)
        assert without.status_code == 401
        named = url.replace("/mcp", "/.well-known/oauth-protected-resource/mcp")
        assert f'resource_metadata="{named}"' in without.headers["www-authenticate"]
        assert httpx2.get(named).json()["authorization_servers"] == [issuer.url]
        assert {name: initialize(url, made(issuer)).status_code for name, made in BAD_TOKENS.items()} == dict.fromkeys(
            BAD_TOKENS, 401
        )
        with issuer.away():
            assert initialize(url, issuer.token("bob")).status_code == 200
        called = cli.run("call", "--url", url, "hello", "name=Ada")
        assert (called.returncode, "give --token, or set TASKMILL_TOKEN" in called.stderr) == (1, True)
        words = ("call", "--url", url, "hello", "name=Ada")
        with_token = cli.run(*words, TASKMILL_TOKEN=issuer.token())
        assert "Ada" in with_token.stdout, with_token.stderr
        refused = cli.run(*words, "--token", BAD_TOKENS["expired"](issuer))
        assert (refused.returncode, "refuses the token" in refused.stderr) == (1, True)


@pytest.mark.slow
def test_flags_and_the_authors_own_start_do_the_same(cli: CommandLine, issuer: Issuer) -> None:
    cli.write("server.py", SERVER)
    flags = ("--auth-issuer", issuer.url, "--auth-audience", AUDIENCE)
    with cli.started("run", "server.py", "--port", "0", *flags) as server:
        url = server.url()
        assert [initialize(url, token).status_code for token in (issuer.token(), None)] == [200, 401]


def test_half_of_the_settings_stop_the_start(cli: CommandLine) -> None:
    cli.write("server.py", SERVER)
    done = cli.run("serve", "server.py", "--port", "0", TASKMILL_AUTH_AUDIENCE=AUDIENCE)
    assert (done.returncode, "TASKMILL_AUTH_ISSUER" in done.stderr) == (2, True)
    assert "Traceback" not in done.stderr
    done = cli.run("serve", "server.py", "--port", "0", "--auth-issuer", "https://login.example.com")
    assert (done.returncode, "--auth-audience" in done.stderr) == (2, True)


def test_an_open_server_beyond_localhost_says_so(cli: CommandLine) -> None:
    cli.write("server.py", SERVER)
    open_to_all = ("--host", "0.0.0.0", "--allowed-hosts", "tools.example.com")
    with cli.started("serve", "server.py", "--port", "0", *open_to_all) as server:
        server.url()
        eventually(lambda: "auth.open" in server.log.read_text())


def findings(cli: CommandLine, **given: str) -> dict[str, str]:
    done = cli.run("doctor", "server.py", "--json", **given)
    return {
        f"{one['level']}: {one['detail']}": one["remedy"]
        for one in json.loads(done.stdout)
        if one["name"] == "authentication"
    }


def test_doctor_tells_an_open_server_from_a_closed_one(cli: CommandLine, issuer: Issuer, tmp_path: Path) -> None:
    cli.write("server.py", SERVER)
    (opened,) = [found for found in findings(cli, TASKMILL_HOST="0.0.0.0") if found.startswith("warning")]
    assert "without authentication" in opened
    given = {"TASKMILL_AUTH_ISSUER": issuer.url, "TASKMILL_AUTH_AUDIENCE": AUDIENCE}
    assert findings(cli, **given).keys() == {f"ok: tokens of {issuer.url}, which answers"}
    with issuer.away():
        (away,) = findings(cli, **given)
        assert away.startswith("unfit")
        assert "503" in away
