"""A model's loop inside a task: no answer is paid for twice, and no tool call runs again, whatever workers die."""

import json
from collections import Counter

import pytest

from tests.support.results import text_of_task
from tests.support.scripted_model import ScriptedModel, call, say
from tests.support.waiting import eventually_async
from tests.workers.deployment import Deployment, WorkerProcess

STEPS = 10


async def next_worker(deployment: Deployment, model: ScriptedModel, name: str) -> WorkerProcess:
    environment = {**model.environment, "TEST_MODEL": name}
    return await deployment.worker(server="agent_tools", env=environment, lease=0.3, crash_limit=100, ready=False)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", ["anthropic/claude-test", "openai/gpt-test"])
async def test_a_loop_whose_worker_is_killed_at_every_step_pays_for_no_answer_twice(
    deployment: Deployment, name: str
) -> None:
    """SIGKILL while the worker waits for each answer, and in the middle of each tool call: 21 times in one task."""
    script = [[call("press", number=number)] for number in range(STEPS)]
    with ScriptedModel([*script, say("all pressed")]) as model:
        task_id = await deployment.create("press_all", journal=str(deployment.journal), gates=str(deployment.folder))
        holds = [model.hold(number) for number in range(STEPS + 1)]
        worker = await next_worker(deployment, model, name)
        for number, held in enumerate(holds):
            await eventually_async(held.reached.is_set, within=30)
            worker = await replaced(deployment, worker, model, name)
            held.drop()
            if number < STEPS:
                await begun(deployment, number)
                worker = await replaced(deployment, worker, model, name)
                (deployment.folder / f"go-{number}").touch()
        said = text_of_task(await deployment.done(task_id, within=30))

    assert said == f"all pressed after 11: {', '.join(f'pressed {number}' for number in range(STEPS))}"
    assert Counter(model.calls) == Counter(range(STEPS + 1))
    assert [len(noted(deployment, f"done {number}")) for number in range(STEPS)] == [1] * STEPS
    keys = [set(noted(deployment, f"begun {number}")) for number in range(STEPS)]
    assert [len(of_one) for of_one in keys] == [1] * STEPS
    assert len(set.union(*keys)) == STEPS


async def replaced(deployment: Deployment, worker: WorkerProcess, model: ScriptedModel, name: str) -> WorkerProcess:
    """Kill a worker; the one that comes after it."""
    await worker.kill()
    return await next_worker(deployment, model, name)


async def begun(deployment: Deployment, number: int) -> None:
    await eventually_async(lambda: noted(deployment, f"begun {number}"), within=30)


def noted(deployment: Deployment, what: str) -> list[str]:
    """The idempotency keys with which it was noted."""
    lines = deployment.journal.read_text().rpartition("\n")[0].splitlines()
    return [key for said, key in map(json.loads, lines) if said == what]
