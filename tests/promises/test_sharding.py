"""Two queues on two Redis servers, by real commands: a dead one takes only its own tasks with it."""

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.promises.deployment import TASKMILL, Deployment
from tests.support.raw_http import RawClient, Refused
from tests.support.redis_server import PrivateRedis
from tests.support.waiting import WAIT_SECONDS, eventually

SERVER = Path(__file__).with_name("sharded_server.py")
TOKEN = "an-operator-of-tests"


@pytest.fixture
def reports() -> Iterator[PrivateRedis]:
    """The Redis of shard `reports`."""
    with PrivateRedis(appendonly="yes", appendfsync="no") as server:
        yield server


@pytest.fixture
def settings(reports: PrivateRedis) -> dict[str, str]:
    return {
        "TASKMILL_SHARDS": f"reports={reports.url}",
        "TASKMILL_API_OPERATOR_TOKEN": TOKEN,
        "TASKMILL_COMMAND_TIMEOUT": "1",
        "TASKMILL_LEASE": "30",
    }


@pytest.fixture
def deployment(tmp_path: Path, settings: dict[str, str]) -> Iterator[Deployment]:
    with Deployment(tmp_path, SERVER, settings) as deployment:
        yield deployment


def fetched(endpoint: str, path: str) -> str:
    """What a replica says over plain HTTP to the operator."""
    url = endpoint.removesuffix("/mcp") + path
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {TOKEN}"})
    with urllib.request.urlopen(request, timeout=30) as reply:
        return str(reply.read().decode())


def command(deployment: Deployment, settings: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """A `taskmill` command at the same Redis servers."""
    return subprocess.run(
        [TASKMILL, *words, "--redis-url", deployment.redis.url],
        env={"PATH": "/usr/bin:/bin", **settings},
        cwd=deployment.folder,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )


def done(client: RawClient, task_id: str) -> Any:
    """The result of a task once it has one."""
    task = eventually(lambda: client.get_task(task_id), lambda task: task["status"] == "completed")
    return task["result"]["content"][0]["text"]


@pytest.mark.timeout(120)
def test_a_dead_shard_takes_only_its_own_tasks_with_it_and_brings_them_back(
    deployment: Deployment, reports: PrivateRedis, settings: dict[str, str], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        deployment.start(name, "serve", "--port", "0")
    for queue in ("default", "reports"):
        deployment.start(f"worker-{queue}", "worker", "--queue", queue)
    address, other = (eventually(lambda name=name: deployment.address(name)) for name in ("a", "b"))
    first, second = RawClient(address), RawClient(other)
    gate = tmp_path / "gate"
    held = first.call_tool("report", {"gate": str(gate)})["taskId"]
    assert held.endswith(".reports")
    eventually(lambda: "waiting" in second.get_task(held)["statusMessage"])
    assert done(second, first.call_tool("add", {"a": 1, "b": 2})["taskId"]) == "3"
    assert 'taskmill_workers{queue="reports"} 1.0' in fetched(address, "/metrics")

    reports.kill()
    for call in (lambda: second.get_task(held), lambda: first.call_tool("report", {"gate": str(gate)})):
        with pytest.raises(Refused, match=r"Shard reports: Redis cannot be reached right now") as refused:
            call()
        assert refused.value.data == {"retryable": True, "reason": "store_unavailable"}
    assert done(second, first.call_tool("add", {"a": 3, "b": 4})["taskId"]) == "7"
    listed = json.loads(fetched(address, "/api/tasks"))
    assert (len(listed["tasks"]), listed["unreachable"]) == (2, ["reports"])
    assert json.loads(fetched(address, "/readyz")) == {"status": "ready", "unreachable": ["reports"]}
    metrics = fetched(address, "/metrics")
    assert 'taskmill_shard_up{shard="reports"} 0.0' in metrics
    assert "taskmill_store_up 1.0" in metrics
    assert_commands_name_the_dead_shard(deployment, settings)

    reports.start()
    gate.touch()
    assert done(first, held) == "reported at attempt 1"
    assert done(second, first.call_tool("report", {"gate": str(gate)})["taskId"]) == "reported at attempt 1"
    assert json.loads(fetched(address, "/readyz")) == {"status": "ready"}
    assert [process.poll() for process in deployment.processes.values()] == [None] * 4


def assert_commands_name_the_dead_shard(deployment: Deployment, settings: dict[str, str]) -> None:
    with ThreadPoolExecutor() as both:
        doctor = both.submit(command, deployment, settings, "doctor", "--json")
        listed = command(deployment, settings, "tasks", "list")
        told = doctor.result()
    findings = {finding["name"]: finding for finding in json.loads(told.stdout)}
    assert (told.returncode, findings["redis"]["level"], findings["shard reports"]["level"]) == (1, "ok", "unfit")
    assert "TASKMILL_SHARDS" in findings["shard reports"]["remedy"]
    assert (listed.returncode, len(listed.stdout.splitlines())) == (0, 2)
    assert "taskmill: Left out, because its Redis does not answer: the tasks of reports" in listed.stderr
