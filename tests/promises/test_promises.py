"""The promises of the README, kept by real commands under real kills, with default settings."""

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.promises.deployment import Deployment
from tests.support.raw_http import RawClient
from tests.support.waiting import PROMPTLY, WAIT_SECONDS, eventually

TERMINAL = ("completed", "failed", "cancelled")


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with Deployment(tmp_path) as deployment:
        yield deployment


class Journal:
    """What the tools of a test say outside Redis."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "journal"
        self.gate = folder / "gate"
        self.path.touch()

    def arguments(self) -> dict[str, Any]:
        return {"journal": str(self.path), "gate": str(self.gate)}

    def lines(self, what: str) -> list[list[str]]:
        return [line.split()[1:] for line in self.path.read_text().splitlines() if line.startswith(what)]


def statuses(client: RawClient, task_id: str, seen: list[str]) -> None:
    """Listen until the task has ended, and then a little longer, for a second end that must not come."""
    with client.listen({"taskIds": [task_id]}) as stream:
        for frame in stream:
            seen.append(frame["params"]["status"])
            if frame["params"]["status"] in TERMINAL:
                return


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_killed_workers_task_starts_again_within_17_seconds_and_ends_once(
    deployment: Deployment, tmp_path: Path
) -> None:
    """Created on one replica, followed on another, SIGKILL in mid-task, default settings.

    A lease of 15 seconds and two for a worker to see that; more where other work holds that worker up.
    """
    journal = Journal(tmp_path)
    first, second = RawClient(deployment.replica("a")), RawClient(deployment.replica("b"), timeout=60)
    deployment.worker("worker-1")
    task_id = first.call_tool("walk", journal.arguments())["taskId"]
    seen: list[str] = []
    listener = threading.Thread(target=statuses, args=(second, task_id, seen))
    listener.start()
    eventually(lambda: "step" in second.get_task(task_id)["statusMessage"])
    deployment.worker("worker-2")
    deployment.processes["worker-1"].kill()
    killed = time.monotonic()
    eventually(lambda: len(journal.lines("start")) == 2)
    assert time.monotonic() - killed < 15 + PROMPTLY
    journal.gate.touch()
    listener.join(WAIT_SECONDS)
    assert not listener.is_alive()
    assert seen[-1] == "completed"
    assert set(seen[:-1]) == {"working"}
    task = first.get_task(task_id)
    assert task["result"]["content"][0]["text"] == "arrived at attempt 2"
    fences = [int(fence) for _task, _attempt, fence, _pid in journal.lines("start")]
    assert fences == sorted(set(fences))


@pytest.mark.timeout(120)
def test_redis_killed_under_fifty_tasks_loses_none_and_ends_no_worker(deployment: Deployment, tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    client = RawClient(deployment.replica("a"))
    workers = [deployment.worker(name, "--concurrency", "25") for name in ("worker-1", "worker-2")]
    tasks = [client.call_tool("walk", journal.arguments())["taskId"] for _ in range(50)]
    eventually(lambda: len(journal.lines("start")) == 50)
    deployment.redis.kill()
    journal.gate.touch()
    eventually(lambda: len(journal.lines("end")) == 50)
    deployment.redis.start()
    for task_id in tasks:
        task = eventually(lambda task_id=task_id: client.get_task(task_id), lambda task: task["status"] in TERMINAL)
        assert (task["status"], task["result"]["content"][0]["text"]) == ("completed", "arrived at attempt 1")
    assert [worker.poll() for worker in workers] == [None, None]
    assert len(journal.lines("start")) == 50


@pytest.mark.timeout(120)
def test_a_paused_workers_late_result_changes_nothing(deployment: Deployment, tmp_path: Path) -> None:
    """SIGSTOP for longer than the lease; another worker takes the task; SIGCONT."""
    journal = Journal(tmp_path)
    client = RawClient(deployment.replica("a"))
    paused = deployment.worker("worker-1")
    task_id = client.call_tool("walk", journal.arguments())["taskId"]
    eventually(lambda: journal.lines("start"))
    paused.send_signal(signal.SIGSTOP)
    deployment.worker("worker-2")
    eventually(lambda: len(journal.lines("start")) == 2)
    journal.gate.touch()
    task = eventually(lambda: client.get_task(task_id), lambda task: task["status"] in TERMINAL)
    paused.send_signal(signal.SIGCONT)
    eventually(lambda: len(journal.lines("end")) == 2 or "lease.lost" in deployment.log("worker-1").read_text())
    assert task["result"]["content"][0]["text"] == "arrived at attempt 2"
    assert client.get_task(task_id) == task


@pytest.mark.timeout(120)
def test_a_stopped_worker_gives_its_task_back_and_exits_cleanly(deployment: Deployment, tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    client = RawClient(deployment.replica("a"))
    leaving = deployment.worker("worker-1", "--grace", "0.2")
    task_id = client.call_tool("walk", journal.arguments())["taskId"]
    eventually(lambda: journal.lines("start"))
    leaving.terminate()
    assert leaving.wait(WAIT_SECONDS) == 0
    assert client.get_task(task_id)["statusMessage"] == "its worker was stopped, queued again"
    deployment.worker("worker-2")
    eventually(lambda: len(journal.lines("start")) == 2)
    journal.gate.touch()
    task = eventually(lambda: client.get_task(task_id), lambda task: task["status"] in TERMINAL)
    assert task["result"]["content"][0]["text"] == "arrived at attempt 2"
