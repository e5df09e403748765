"""Why each attempt failed is kept for operators: errors, timeouts, processes that died, workers that were killed."""

from typing import Any

import pytest

from taskmill.server.api.attempts import attempts_json
from tests.workers.deployment import Deployment


async def attempts(deployment: Deployment, task_id: str) -> list[dict[str, Any]]:
    return attempts_json(await deployment.events(task_id), await deployment.store.attempt_errors(task_id))


@pytest.mark.parametrize("stock", [False, True], ids=["worker", "stock arq worker"])
async def test_each_attempt_keeps_its_own_error(deployment: Deployment, stock: bool) -> None:
    worker = await deployment.worker(stock=stock)
    task_id = await deployment.create_noted("flaky", failures=2)
    await deployment.done(task_id)

    first, second, third = await attempts(deployment, task_id)

    for number, attempt in ((1, first), (2, second)):
        error = attempt["error"]
        assert (error["type"], error["text"]) == ("ValueError", f"failure {number}")
        assert f"ValueError: failure {number}" in error["traceback"]
        assert "in flaky" in error["traceback"]
        assert str(deployment.journal) not in error["traceback"], "an argument's value"
        assert (attempt["ended"], attempt["worker"]) == ("crashed", worker.said("worker.started")[0]["worker"])
        assert error["pid"] == worker.pid
        assert attempt["seconds"] >= 0
    assert first["error"]["reference"] != second["error"]["reference"]
    assert first["error"]["reference"] in worker.log()
    assert (third["attempt"], third["ended"], third["error"]) == (3, "succeeded", None)


async def test_a_timeout_is_an_error_of_its_attempt(deployment: Deployment) -> None:
    await deployment.worker()
    task_id = await deployment.create_noted("slow_start", deployment.gate("a"), deployment.gate("b"))
    await deployment.done(task_id)

    found = await attempts(deployment, task_id)

    assert [(one["ended"], one["error"]["type"], one["error"]["text"]) for one in found] == [
        ("timed_out", "TimeoutError", "slow_start ran longer than its limit of 1 s."),
        ("timeout", "TimeoutError", "slow_start ran longer than its limit of 1 s."),
    ]


@pytest.mark.usefixtures("short_lease")
async def test_an_attempt_whose_worker_was_killed_is_shown_from_the_history(deployment: Deployment) -> None:
    first = await deployment.worker()
    task_id = await deployment.create_noted("walk", deployment.gate())
    await deployment.noted("start", task_id)
    await first.kill()
    second = await deployment.worker()
    deployment.gate().touch()
    await deployment.done(task_id)

    found = await attempts(deployment, task_id)

    names = [worker.said("worker.started")[0]["worker"] for worker in (first, second)]
    assert [(one["worker"], one["ended"], one["error"]) for one in found] == [
        (names[0], "worker_died", None),
        (names[1], "succeeded", None),
    ]
    assert all(one["started_at"] < one["ended_at"] for one in found)


async def test_an_isolated_tools_error_is_what_it_was_in_its_own_process(deployment: Deployment) -> None:
    await deployment.worker(server="isolated_tools", poll=60)
    raised = await deployment.create("complain", how="crash")
    died = await deployment.create("die", journal=str(deployment.journal), how="exit")
    hungry = await deployment.create("hoard", slowly=True)
    found = {}
    for task_id in (raised, died, hungry):
        await deployment.done(task_id, within=60)
        (attempt,) = await attempts(deployment, task_id)
        found[task_id] = attempt["error"]

    assert (found[raised]["type"], found[raised]["text"]) == ("LookupError", "the secret word is swordfish")
    assert "in complain" in found[raised]["traceback"]
    assert found[died]["text"] == "The process of die ended by itself with exit code 3."
    assert found[died]["type"].endswith("ProcessDied")
    assert found[hungry]["text"].startswith("hoard used more memory than its limit")
