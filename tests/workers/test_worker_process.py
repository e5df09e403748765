"""What a worker process is to others: its health key, its lifespan, and what a tool's context says in it."""

import base64
import json
import signal
import socket
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from taskmill.engine.principal import ANONYMOUS
from taskmill.store.settings import StoreSettings
from taskmill.store.tasks.redis_store import RedisTaskStore
from tests.support.results import text_of_task
from tests.support.waiting import eventually_async
from tests.workers.deployment import Deployment


@pytest.mark.usefixtures("short_lease")
async def test_each_worker_says_that_it_lives_and_what_it_does(deployment: Deployment) -> None:
    """one health key a worker; plain arq has one a queue."""
    first = await deployment.worker(concurrency=3)
    await deployment.worker(queue="other")
    task_id = await deployment.create_noted("walk", deployment.gate())
    said = await eventually_async(
        deployment.store.workers, lambda said: len(said) == 2 and sum(worker["running"] for worker in said) == 1
    )
    (busy,) = [worker for worker in said if worker["running"]]
    assert busy == {
        "worker": first.said("worker.started")[0]["worker"],
        "since": busy["since"],
        "queue": "default",
        "queues": ["default"],
        "app": "",
        "concurrency": 3,
        "configured": 3,
        "running": 1,
        "settled": 0,
        "mean_seconds": None,
        "host": socket.gethostname(),
        "pid": first.pid,
        "leaving": False,
        "state": "working",
        "obeys": True,
        "version": version("taskmill"),
        "memory": busy["memory"],
        "tasks": [{"id": task_id, "tool": "walk", "since_ms": busy["tasks"][0]["since_ms"]}],
        "tools": busy["tools"],
        "scheduled": [],
    }
    assert {"walk", "quick"} <= set(busy["tools"])
    deployment.gate().touch()
    await deployment.done(task_id)
    (said,) = [
        worker
        for worker in await eventually_async(
            deployment.store.workers, lambda said: sum(worker["settled"] for worker in said) == 1
        )
        if worker["settled"]
    ]
    assert said["mean_seconds"] > 0


async def test_the_health_key_is_gone_when_the_worker_has_left(deployment: Deployment) -> None:
    worker = await deployment.worker(lease=180)
    await eventually_async(deployment.store.workers)
    worker.send(signal.SIGTERM)
    assert await worker.ended() == 0
    assert await deployment.store.workers() == []


@pytest.mark.usefixtures("short_lease")
async def test_the_health_key_of_a_killed_worker_expires_with_the_lease(deployment: Deployment) -> None:
    worker = await deployment.worker()
    await eventually_async(deployment.store.workers)
    await worker.kill()
    await eventually_async(deployment.store.workers, lambda said: said == [])


@pytest.fixture
async def told(tmp_path: Path) -> Path:
    """Where lifespans say that they are entered and left."""
    told = tmp_path / "lifespan"
    told.touch()
    return told


def lines(told: Path) -> list[list[Any]]:
    """What was said there."""
    return [json.loads(line) for line in told.read_text().splitlines()]


@pytest.mark.parametrize("stock", [False, True])
async def test_the_lifespan_is_entered_once_in_each_worker_process(
    deployment: Deployment, told: Path, stock: bool
) -> None:
    """Every task sees what it yielded."""
    worker = await deployment.worker(stock=stock, env={"TEST_LIFESPAN": str(told)}, poll=0.05)
    for _ in range(5):
        view = await deployment.done(await deployment.create("who_am_i"))
        assert json.loads(text_of_task(view))["lifespan"] == {"made_in": str(worker.pid)}
    assert lines(told) == [["entered", worker.pid]]
    if stock:
        await idle_arq(deployment)
    worker.send(signal.SIGTERM)
    assert await worker.ended() == 0
    assert lines(told) == [["entered", worker.pid], ["left", worker.pid]]


async def idle_arq(deployment: Deployment) -> None:
    """Wait until arq has tidied up after its jobs: told to end in the middle of that, it fails by itself."""
    await eventually_async(lambda: deployment.redis.keys("arq:*"), lambda keys: keys == [])

    async def polls() -> int:
        return int((await deployment.redis.info("commandstats"))["cmdstat_zrangebyscore"]["calls"])

    before = await polls()
    await eventually_async(polls, lambda calls: calls >= before + 3)


async def test_a_tool_that_exits_does_not_leave_the_lifespan(deployment: Deployment, told: Path) -> None:
    worker = await deployment.worker(env={"TEST_LIFESPAN": str(told)})
    await deployment.done(await deployment.create("leave_behind", how="SystemExit", awaited=True))
    await deployment.done(await deployment.create_noted("quick"))
    assert lines(told) == [["entered", worker.pid]]


async def test_the_context_says_which_attempt_this_is(deployment: Deployment) -> None:
    worker = await deployment.worker()
    task_id = await deployment.create("who_am_i")
    assert json.loads(text_of_task(await deployment.done(task_id))) == {
        "task_id": task_id,
        "idempotency_key": task_id,
        "attempt": 1,
        "fence": 1,
        "cancelled": False,
        "lifespan": {"made_in": str(worker.pid)},
        "pid": worker.pid,
        "thread": True,
    }


async def test_fence_and_attempt_rise_and_the_idempotency_key_stays(deployment: Deployment) -> None:
    await deployment.worker()
    task_id = await deployment.create_noted("flaky", failures=2)
    await deployment.done(task_id)
    assert [(note.task_id, note.attempt, note.fence) for note in deployment.notes("start")] == [
        (task_id, 1, 1),
        (task_id, 2, 2),
        (task_id, 3, 3),
    ]


async def test_sealed_payloads_are_opened_and_sealed_again(deployment: Deployment) -> None:
    """arguments, questions, answers and result; nothing of them can be read in Redis."""
    key = base64.b64encode(bytes(32)).decode()
    settings = StoreSettings(redis_url=deployment.settings["redis_url"], seal_keys=key)  # type: ignore[arg-type]
    deployment.store = RedisTaskStore(deployment.redis, settings)
    await deployment.worker(seal_keys=key)
    view = await deployment.done(await deployment.create("echo", text="confidential"))
    assert text_of_task(view) == "confidential"
    deployment.gate().touch()
    task_id = await deployment.create_noted("ask_two", deployment.gate())
    questions = (
        await eventually_async(lambda: deployment.read(task_id), lambda view: len(view.questions) == 2)
    ).questions
    stored = [await deployment.redis.dump(key) for key in await deployment.redis.keys("*")]
    assert not any(word in each for each in stored if each for word in (b"confidential", b"One?"))
    await deployment.store.answer(task_id, ANONYMOUS, {key: {"action": "decline"} for key in questions})
    assert text_of_task(await deployment.done(task_id)) == "decline decline at attempt 1"
