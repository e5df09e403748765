"""Many tasks while workers come and go: each task ends once, whatever was done to the workers."""

import asyncio
import random
import signal
from collections import Counter

import pytest

from tests.support.waiting import eventually_async
from tests.workers.deployment import Deployment


async def _after_more_starts(deployment: Deployment, more: int, tasks: int) -> None:
    """Wait until so many attempts have started, or each of the tasks has one: on a slow machine workers come late."""
    enough = min(len(deployment.notes("start")) + more, tasks - 1)
    await eventually_async(lambda: len(deployment.notes("start")) > enough)


async def test_rolling_restarts_under_load_lose_nothing_and_count_no_crash(deployment: Deployment) -> None:
    """SIGTERM without a grace, again and again; what ran is released and run again, in the end by stock arq too."""
    workers = [await deployment.worker(concurrency=5, lease=30) for _ in range(2)]
    tasks = await asyncio.gather(*(deployment.create_noted("nap", seconds=0.05) for _ in range(400)))
    for restart in range(8):
        await _after_more_starts(deployment, 10, len(tasks))
        leaving = workers.pop(0)
        leaving.send(signal.SIGTERM)
        workers.append(await deployment.worker(concurrency=5, lease=30, stock=restart == 7, poll=0.05))
        assert await leaving.ended() == 0
    await eventually_async(lambda: deployment.redis.zcard(deployment.keys.live), lambda left: left == 0)
    for task_id in tasks:
        record = await deployment.record(task_id)
        assert (record.status, record.crashes) == ("completed", 0)
        assert (await deployment.moves(task_id)).count("release") == record.attempt - 1


@pytest.mark.slow
async def test_workers_killed_at_random_moments_lose_nothing(deployment: Deployment) -> None:
    """SIGKILL; a task may run twice, and ends once. Nobody takes what another has unless that one is dead."""
    chosen = random.Random(20251124)
    settings = {"concurrency": 8, "lease": 0.5, "poll": 0.2, "crash_limit": 50}
    workers = [await deployment.worker(**settings) for _ in range(3)]
    tasks = await asyncio.gather(*(deployment.create_noted("nap", seconds=0.4) for _ in range(400)))
    for _ in range(8):
        await _after_more_starts(deployment, chosen.randrange(30), len(tasks))
        await workers.pop(chosen.randrange(3)).kill()
        workers.append(await deployment.worker(**settings))
    await eventually_async(lambda: deployment.redis.zcard(deployment.keys.live), lambda left: left == 0)
    starts = Counter(note.task_id for note in deployment.notes("start"))
    for task_id in tasks:
        record = await deployment.record(task_id)
        assert (record.status, record.crashes) == ("completed", record.attempt - 1)
        assert 1 <= starts[task_id] <= record.attempt
