"""Clients of every class through a reverse proxy as our samples configure it, before two replicas, one of which dies.

Both are Debian's, and are installed where a machine builds.
"""

import http.client
import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.promises.deployment import Deployment
from tests.promises.reverse_proxies import ReverseProxy, caddy, nginx
from tests.support.client_classes import Client, Plain, Task, Tasks2025, Tasks2026
from tests.support.client_wires import CAPABILITIES, TASKS, Http, ModernHttp
from tests.support.official_clients import Official, Program
from tests.support.redis_server import free_port
from tests.support.results import text_of
from tests.support.waiting import eventually

SERVER = Path(__file__).parents[1] / "clients" / "server.py"
PROXIES = {"nginx": nginx, "caddy": caddy}
TOKEN = "the-token-of-the-operator"
CLIENT_ADDRESS, FORGED_ADDRESS = "127.0.0.2", "203.0.113.7"
SURELY_NEW = 3
"""A message that is so many steps further was sent after now: the one before may be on its way."""


class Scene:
    """Two replicas behind a proxy, the second not started yet, and a worker."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.ports = (free_port(), free_port())
        self.audit = folder / "audit.jsonl"
        settings = {
            "TASKMILL_API_OPERATOR_TOKEN": TOKEN,
            "TASKMILL_AUDIT": f"file:{self.audit}",
            "TASKMILL_HANDOFF_AFTER": "1",
        }
        self.deployment = stack.enter_context(Deployment(folder, SERVER, settings))
        self.deployment.replica("a", self.ports[0])
        self.deployment.worker("worker", "--concurrency", "10")

    def start_the_other(self, proxy: ReverseProxy) -> None:
        """The second replica, and wait until the proxy sends requests there."""
        self.deployment.replica("b", self.ports[1])
        log = self.deployment.log("b")
        self._answered(proxy, lambda: http_requests(self.ports[1]) > 0)
        assert self.deployment.processes["b"].poll() is None, log.read_text()

    def kill_the_first(self, proxy: ReverseProxy) -> None:
        """SIGKILL, and wait until requests pass."""
        self.deployment.processes["a"].kill()
        self.deployment.processes["a"].wait()
        self._answered(proxy, lambda: True)

    def _answered(self, proxy: ReverseProxy, enough: Callable[[], bool]) -> None:
        with browser(proxy) as page:
            eventually(lambda: page.get("/readyz").status_code == 200 and enough())


def http_requests(port: int) -> float:
    """Requests for its readiness that a replica has answered; our own here go to its metrics."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return sum(float(line.split()[-1]) for line in lines if "http_requests_total{" in line and 'part="health"' in line)


@contextmanager
def browser(proxy: ReverseProxy, address: str | None = None, **options: Any) -> Iterator[httpx2.Client]:
    """A client that trusts the proxy's certificate; `address`: where it sends from."""
    trusted = ssl.create_default_context(cafile=str(proxy.certificate))
    transport = httpx2.HTTPTransport(verify=trusted, local_address=address)
    with httpx2.Client(base_url=proxy.url, transport=transport, timeout=30, **options) as page:
        yield page


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", PROXIES)
def test_all_classes_of_client_get_through_a_proxy_and_outlive_a_replica(
    name: str, tmp_path: Path, official: Official, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        scene = Scene(tmp_path, stack)
        proxy = stack.enter_context(PROXIES[name](tmp_path, scene.ports))
        for variable in ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"):
            monkeypatch.setenv(variable, str(proxy.certificate))
        names_are_led_to_tls(proxy)
        # While there is one replica, it has every stream; the proxy passes over the other, which is not there.
        walker = stack.enter_context(walking(proxy, official, tmp_path / "walked"))
        scene.start_the_other(proxy)
        is_handed_off(proxy, official)
        an_operator_logs_in(proxy, scene.audit)

        is_held(clients(proxy)["held"], tmp_path / "held-gate")
        digging = {kind: clients(proxy)[kind].begin("dig", gate=str(tmp_path / "gate")) for kind in ("2026", "2025")}
        for kind, task in digging.items():
            assert "half of the hole" in task.until(lambda seen: "half" in seen[1])[1], kind
        seen = events_of_a_script(proxy, id_of(digging["2026"]), until="half")
        scene.kill_the_first(proxy)
        walks_on(walker)
        (tmp_path / "gate").touch()
        for kind, task in digging.items():
            assert text_of(task.result()) == "dug", kind
        events_go_on(proxy, id_of(digging["2026"]), seen)
        (tmp_path / "walked").touch()
        ends_complete(walker.finish())


def clients(proxy: ReverseProxy) -> dict[str, Client]:
    """One of each class that speaks from this process."""
    url = f"{proxy.url}/mcp"
    session, other = Http(url), Http(url)
    other._session = session._session
    both = {**CAPABILITIES, "extensions": {TASKS: {}}}
    return {"2026": Tasks2026(ModernHttp(url, both)), "2025": Tasks2025(Http(url)), "held": Plain(session, other)}


def id_of(task: Task) -> str:
    return str(task.id)  # type: ignore[attr-defined]  # each class has one


def names_are_led_to_tls(proxy: ReverseProxy) -> None:
    connection = http.client.HTTPConnection("localhost", proxy.plain_port, timeout=20)
    connection.request("GET", "/console/")
    answer = connection.getresponse()
    assert answer.status in (301, 308), answer.read()
    assert (answer.getheader("Location") or "").startswith("https://localhost")
    connection.close()


@contextmanager
def walking(proxy: ReverseProxy, official: Official, gate: Path) -> Iterator[Program]:
    """A plain client of 2025-11-25 in the middle of a call that the server holds."""
    words = json.dumps({"gate": str(gate), "pause": 0.2})
    with official.typescript(f"{proxy.url}/mcp", "call", "walk", words) as program:
        program.until(lambda saw: saw["saw"] == "progress" and saw["progress"] >= SURELY_NEW)
        yield program


def walks_on(program: Program) -> None:
    """It is told of steps that came after now."""
    known = max(saw["progress"] for saw in program.catch_up() if saw["saw"] == "progress")
    program.until(lambda saw: saw["saw"] == "progress" and saw["progress"] >= known + SURELY_NEW)


def ends_complete(seen: list[Any]) -> None:
    """Every step came once and in order, and the result; the stream was resumed."""
    steps = [saw["progress"] for saw in seen if saw["saw"] == "progress" and not saw["progress"] % 1]
    walked, count, _ = text_of(seen[-1]).split()
    assert (walked, steps) == ("walked", list(range(1, int(count) + 1)))
    assert any(saw["saw"] == "get" and saw["cursor"] and saw["status"] == 200 for saw in seen), seen


def is_held(client: Client, gate: Path) -> None:
    """A call without a task gets the tool's progress as it happens, and its result."""
    task = client.begin("dig", gate=str(gate))
    eventually(lambda: [message["params"]["progress"] for message in client.wire.received], lambda seen: 1 in seen)
    gate.touch()
    assert text_of(task.result()) == "dug"


def is_handed_off(proxy: ReverseProxy, official: Official) -> None:
    """A host that gives calls up gets an id, waits with the follow-up tool, and has the result."""
    words = json.dumps({"steps": 3, "pause": 0.8})
    with official.model(f"{proxy.url}/mcp", "count", words, "20000") as model:
        _tools, first, *_, last = model.finish()
    assert (first["tool"], last["tool"], text_of(last)) == ("count", "task_wait", "counted to 3")


def an_operator_logs_in(proxy: ReverseProxy, audit: Path) -> None:
    """To the console, by its form; the trail has the client's address, which the proxy passed on, not what it wrote."""
    with browser(proxy, CLIENT_ADDRESS, headers={"Accept": "text/html"}) as page:
        assert page.get("/console/tasks").status_code == 303
        form = {"data": {"token": TOKEN}, "headers": {"Origin": proxy.url, "X-Forwarded-For": FORGED_ADDRESS}}
        entered = page.post("/console/login", **form)  # type: ignore[arg-type]  # the arguments by name
        assert (entered.status_code, "; Secure" in entered.headers["set-cookie"]) == (303, True), entered.text
        assert page.get("/console/tasks").status_code == 200
        with page.stream("GET", "/console/live/overview") as live:
            assert next(live.iter_lines()).startswith("data: "), "at once, not when a buffer is full"
        assert page.get("/metrics").status_code == 403, "they are not for the world"
        an_operator_pauses(page, proxy)
    records = [json.loads(line) for line in audit.read_text().splitlines()]
    logins = [record for record in records if record["action"] == "operator.logged_in"]
    assert [record["address"] for record in logins] == [CLIENT_ADDRESS]


def an_operator_pauses(page: httpx2.Client, proxy: ReverseProxy) -> None:
    """A tool that no one calls, after the confirmation; a page of the same name behind another port does nothing."""
    path = "/console/tools/book/pause"
    assert "book" in page.get(path).text
    for port in (proxy.plain_port, 443):
        refused = page.post(path, headers={"Origin": f"https://localhost:{port}"}, data={"reason": "forged"})
        assert (refused.status_code, "forged" in page.get("/console/queues").text) == (403, False), port
    done = page.post(path, headers={"Origin": proxy.url}, data={"reason": "a test"})
    assert (done.status_code, done.headers["location"]) == (303, "/console/queues?done=paused"), done.text
    assert "a test" in page.get("/console/queues").text
    assert page.post("/console/tools/book/resume", headers={"Origin": proxy.url}).status_code == 303


def events_of_a_script(proxy: ReverseProxy, task_id: str, *, until: str, after: int | None = None) -> list[int]:
    """The numbers of a task's events up to the one with these words, as a script reads them."""
    headers = {"Authorization": f"Bearer {TOKEN}"} | ({} if after is None else {"Last-Event-ID": str(after)})
    numbers: list[int] = []
    with browser(proxy) as script, script.stream("GET", f"/api/tasks/{task_id}/events", headers=headers) as events:
        assert events.status_code == 200
        for line in events.iter_lines():
            name, _, value = line.partition(":")
            if name == "id":
                numbers.append(int(value))
            if until in line:
                return numbers
    raise AssertionError(f"no {until!r} in {numbers}")


def events_go_on(proxy: ReverseProxy, task_id: str, seen: list[int]) -> None:
    """From any replica, none twice and none left out."""
    more = events_of_a_script(proxy, task_id, until="completed", after=seen[-1])
    assert [*seen, *more] == list(range(1, seen[-1] + len(more) + 1))
