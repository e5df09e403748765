"""A model's loop inside a task: no answer is paid for twice, and no tool call runs again, whatever workers die."""

import json
from collections import Counter
from dataclasses import dataclass

import pytest

from tests.support.results import text_of_task
from tests.support.scripted_model import ScriptedModel, call, say
from tests.support.waiting import eventually_async
from tests.workers.deployment import Deployment, WorkerProcess

STEPS = 10


PRELOADED = [
    "anthropic",
    "openai",
    "taskmill.adapters.fastmcp.host",
    "key_value.aio.stores.memory",
    "key_value.aio.adapters.pydantic",
]
"""Without them, to import these would be most of the time of 22 workers."""


@dataclass(frozen=True)
class Agents:
    """Workers with an agent, one after the other."""

    deployment: Deployment
    model: ScriptedModel
    server: str
    name: str
    """Of the model."""

    async def next_worker(self) -> WorkerProcess:
        environment = {**self.model.environment, "TEST_MODEL": self.name}
        return await self.deployment.worker(
            server=self.server, env=environment, preload=PRELOADED, lease=0.3, crash_limit=100, ready=False
        )

    async def replaced(self, worker: WorkerProcess) -> WorkerProcess:
        """Kill a worker; the one that comes after it."""
        await worker.kill()
        return await self.next_worker()


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("server", "name"),
    [
        ("agent_tools", "anthropic/claude-test"),
        ("fastmcp_agent_tools", "openai/gpt-test"),
    ],
)
async def test_a_loop_whose_worker_is_killed_at_every_step_pays_for_no_answer_twice(
    deployment: Deployment, server: str, name: str
) -> None:
    """SIGKILL while the worker waits for each answer, and in the middle of each of ten tool calls: 21 in one task."""
    script = [[call("press", number=number)] for number in range(STEPS)]
    with ScriptedModel([*script, say("all pressed")]) as model:
        task_id = await deployment.create("press_all", journal=str(deployment.journal), gates=str(deployment.folder))
        holds = [model.hold(number) for number in range(STEPS + 1)]
        agents = Agents(deployment, model, server, name)
        worker = await agents.next_worker()
        for number, held in enumerate(holds):
            await eventually_async(held.reached.is_set, within=30)
            worker = await agents.replaced(worker)
            held.drop()
            if number < STEPS:
                await begun(deployment, number)
                worker = await agents.replaced(worker)
                (deployment.folder / f"go-{number}").touch()
        said = text_of_task(await deployment.done(task_id, within=30))

    assert said == f"all pressed after 11: {', '.join(f'pressed {number}' for number in range(STEPS))}"
    assert Counter(model.calls) == Counter(range(STEPS + 1))
    assert [len(noted(deployment, f"done {number}")) for number in range(STEPS)] == [1] * STEPS
    keys = [set(noted(deployment, f"begun {number}")) for number in range(STEPS)]
    assert [len(of_one) for of_one in keys] == [1] * STEPS
    assert len(set.union(*keys)) == STEPS


async def begun(deployment: Deployment, number: int) -> None:
    await eventually_async(lambda: noted(deployment, f"begun {number}"), within=30)


def noted(deployment: Deployment, what: str) -> list[str]:
    """The idempotency keys with which it was noted."""
    lines = deployment.journal.read_text().rpartition("\n")[0].splitlines()
    return [key for said, key in map(json.loads, lines) if said == what]
