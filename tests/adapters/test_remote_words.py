"""A server behind Taskmill that cannot be connected to: what an operator reads names the reason and what to do."""

import logging
import os
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from taskmill.adapters.remote import client, sessions
from taskmill.adapters.remote.sessions import UpstreamSessions
from taskmill.adapters.remote.target import Upstream, command_target, label_of
from taskmill.adapters.remote.words import UpstreamUnreachable
from tests.support.redis_server import free_port


class Refusing(BaseHTTPRequestHandler):
    """Answers with the status that the path names, and a page."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(int(self.path.strip("/")))
        self.send_header("content-type", "text/html")
        self.send_header("location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(autouse=True)
def one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "_TRIES", 1)
    monkeypatch.setattr(sessions, "_LONGEST_CONNECT", 0.0)
    monkeypatch.setattr(client, "_CONNECT_TIMEOUT", 60.0)


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


async def why(upstream: Upstream) -> str:
    made = UpstreamSessions(upstream, lambda: None)
    try:
        with pytest.raises(UpstreamUnreachable) as failed:
            await made.client()
    finally:
        await made.close()
    return failed.value.why


@pytest.mark.parametrize(
    ("path", "headers", "words"),
    [
        ("/401", {}, "it wants a token (401): set TASKMILL_UPSTREAM_TOKEN"),
        ("/401", {"Authorization": "Bearer x"}, "it refuses the token (401)"),
        ("/403", {}, "it refuses access (403)"),
        ("/404", {}, "there is no MCP endpoint at this address (404): it often ends in /mcp"),
        ("/500", {}, "it answers with HTTP status 500"),
        ("/200", {}, "it answers as no MCP server does"),
    ],
)
async def test_an_address_that_refuses_says_what_to_do(
    address: str, path: str, headers: dict[str, str], words: str
) -> None:
    assert (await why(Upstream("it", url=address + path, headers=headers))).startswith(words)


async def test_an_address_without_a_server_says_what_to_do(address: str) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}/mcp"
    assert await why(Upstream("it", url=nowhere)) == "nothing listens at this address: start the server first"
    without_tls = address.replace("http:", "https:")
    assert "an address with http:// may be meant" in await why(Upstream("it", url=without_tls))


@pytest.mark.parametrize(
    ("code", "seconds", "words"),
    [
        ("raise SystemExit(3)", 60, "it ended before it answered: what it printed, on standard error, may say why"),
        ("print('Hi!', flush=True); input()", 60, "it ended before it answered"),
        ("import time; time.sleep(60)", 0.5, "it did not answer in time: it may not be an MCP server, or need longer"),
    ],
)
async def test_a_command_that_is_no_server_says_what_to_do(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    seconds: float,
    words: str,
) -> None:
    monkeypatch.setattr(client, "_CONNECT_TIMEOUT", seconds)
    (tmp_path / "it.py").write_text(code)
    command = (sys.executable, str(tmp_path / "it.py"))
    assert (await why(Upstream("it", command=command, environment=dict(os.environ)))).startswith(words)
    logged = [record for record in caplog.records if record.name == "mcp.client.stdio"]
    assert all(record.levelno <= logging.WARNING and not record.exc_info for record in logged)


async def test_a_command_that_is_not_there_says_what_to_do() -> None:
    words = await why(Upstream("it", command=("no-such-command",), environment=dict(os.environ)))
    assert words.startswith("there is no command 'no-such-command': check the word behind `--`")


@pytest.mark.parametrize(
    ("command", "label"),
    [
        ("npx -y @scope/server-everything@1.2", "server-everything"),
        ("npx -p some-package some-server", "some-server"),
        ("uvx --from git+https://host.example/it some-server --db notes.db", "some-server"),
        ("uv run --directory /home/ann/it server.py", "server"),
        ("python -u -m some_server", "some_server"),
        ("python -c print(1)", "python"),
        ("docker run -i --rm -e API_TOKEN host.example/team/some-server", "some-server"),
        ("docker run --env API_TOKEN=secret -v /data:/data some-server:latest", "some-server"),
    ],
)
def test_a_command_is_called_by_its_server_and_not_by_an_option(command: str, label: str) -> None:
    """The name stands in files of hosts and in logs: the value of an option may be a secret."""
    assert label_of(command_target(command.split())) == label
