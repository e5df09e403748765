"""One deployment for the suite - Redis, a server, a worker, two stdio processes - and a client of each class."""

import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.support.client_classes import Client, Plain, Tasks2025, Tasks2026
from tests.support.client_wires import CAPABILITIES, TASKS, Http, ModernHttp, ModernPipes, Pipes
from tests.support.processes import taskmill
from tests.support.redis_server import PrivateRedis, free_port

HERE = Path(__file__).parent
BOTH = {**CAPABILITIES, "extensions": {TASKS: {}}}


class Deployment:
    """Where the clients connect."""

    def __init__(self, url: str, environment: dict[str, str], log: Path) -> None:
        self.url = url
        self.environment = environment
        self.log = log

    @contextmanager
    def stdio(self) -> "Iterator[subprocess.Popen[str]]":
        """A server on pipes."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [taskmill(), "stdio", str(HERE / "server.py")],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture(scope="package")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    home = tmp_path_factory.mktemp("behaviour")
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TASKMILL_")}
    with PrivateRedis() as redis, (home / "log").open("ab") as log:
        environment |= {"TASKMILL_HOME": str(home), "TASKMILL_GRACE": "1", "TASKMILL_REDIS_URL": redis.url}
        command = [taskmill(), "run", str(HERE / "server.py"), "--port", str(port)]
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            until_ready(port, server, home / "log")
            yield Deployment(f"http://127.0.0.1:{port}/mcp", environment, home / "log")
        finally:
            server.terminate()
            server.wait(30)


def until_ready(port: int, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = monotonic() + 90
    while monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=30) as answer:
                assert json.load(answer) == {"status": "ready"}
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            sleep(0.1)
    raise AssertionError(f"taskmill run did not become ready:\n{log.read_text()}")


@pytest.fixture(scope="package")
def clients(deployment: Deployment) -> Iterator[dict[str, Client]]:
    """A client of each class, by name."""
    with deployment.stdio() as modern, deployment.stdio() as legacy:
        session = Http(deployment.url)
        other = Http(deployment.url)
        other._session = session._session
        yield {
            "2026 http": Tasks2026(ModernHttp(deployment.url, BOTH)),
            "2026 stdio": Tasks2026(ModernPipes(modern, BOTH)),
            "2025 http": Tasks2025(Http(deployment.url)),
            "2025 stdio": Tasks2025(Pipes(legacy)),
            "plain": Plain(session, other),
        }


@pytest.fixture(params=["2026 http", "2026 stdio", "2025 http", "2025 stdio", "plain"])
def client(request: pytest.FixtureRequest, clients: dict[str, Client]) -> Client:
    """Each class of client in turn."""
    chosen = clients[request.param]
    chosen.asked.clear()
    chosen.requests.clear()
    chosen.wire.received.clear()
    return chosen
