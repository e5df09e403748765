"""A tool that asks three questions and takes two steps, interrupted between any two awaits by whatever ends a process.

Every order of two interruptions in a row at every place here; `scripts/interruptions` sails through every order of six.
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from redis.asyncio import Redis

from taskmill.engine.outcome import Returned
from tests.support.redis_server import PrivateRedis
from tests.workers.deployment import Deployment, WorkerForks
from tests.workers.interruption_orders import (
    INTERRUPTIONS,
    PLACES,
    TOOLS,
    InterruptedTask,
    Series,
    every_order,
    series_of,
)

_LENGTH = int(os.environ.get("TASKMILL_TEST_INTERRUPTIONS", "2"))
_LINES = 2 if _LENGTH <= 2 else 8
"""Series that run side by side: one only waits, most of the time."""


@pytest.mark.parametrize("length", [1, 2, 3])
def test_the_rounds_hold_every_order_of_interruptions(length: int) -> None:
    rounds = every_order(length)
    windows = {tuple((rounds + rounds)[at : at + length]) for at in range(len(rounds))}

    assert len(rounds) == len(windows) == len(INTERRUPTIONS) ** length


@pytest.mark.parametrize("count", [1, 3, 4])
def test_lines_side_by_side_see_what_one_long_line_would(count: int) -> None:
    rounds = every_order(2)
    trip = rounds + rounds
    lives = [tuple(line[at : at + len(PLACES)]) for line, begun in series_of(rounds, count) for at in range(begun)]

    assert Counter(lives) == Counter(tuple(trip[at : at + len(PLACES)]) for at in range(len(rounds)))


@asynccontextmanager
async def private_deployment(folder: Path, worker_forks: WorkerForks) -> AsyncIterator[tuple[Deployment, PrivateRedis]]:
    """A deployment on a Redis of its own; what must be true is checked in the end."""
    folder.mkdir()
    with PrivateRedis(appendonly="yes", appendfsync="no") as server:
        async with Redis.from_url(server.url) as client:
            deployment = Deployment(client, server.url, folder, worker_forks)
            yield deployment, server
            await deployment.end()
            await deployment.check()


async def judge(deployment: Deployment, interrupted: InterruptedTask) -> None:
    view = await deployment.done(interrupted.task_id, within=20)
    assert isinstance(view.outcome, Returned), interrupted
    log = view.outcome.value["structuredContent"]["result"]
    assert [log[0], log[2], log[4]] == ["accept"] * 3, interrupted
    assert [interrupted.noted(step) for step in ("load", "unload")] == [1, 1], interrupted
    # An attempt that meets its open question again waits for it again: that opens no other one.
    waiting = [
        0,
        *(
            event.facts["questions"]
            for event in await deployment.events(interrupted.task_id)
            if "questions" in event.facts
        ),
    ]
    assert sum(max(0, now - before) for before, now in pairwise(waiting)) == 3, interrupted
    assert view.record.failures == 0


@pytest.mark.timeout(90 + 2 * 4**_LENGTH)
async def test_each_step_takes_effect_once_and_each_question_is_asked_once_whatever_interrupts(
    tmp_path: Path, worker_forks: WorkerForks
) -> None:
    rounds = every_order(_LENGTH)
    async with AsyncExitStack() as stack:
        series: list[tuple[Deployment, Series]] = []
        async with asyncio.TaskGroup() as group:
            for number, line in enumerate(series_of(rounds, _LINES)):
                there = await stack.enter_async_context(private_deployment(tmp_path / f"line-{number}", worker_forks))
                series.append((there[0], Series(*there)))
                group.create_task(series[-1][1].run(*line))

        met = [interrupted for _, one_series in series for interrupted in one_series.ended]
        assert len(met) == len(rounds) * len(TOOLS)
        assert {len(interrupted.met) for interrupted in met} == {len(PLACES)}
        for deployment, one_series in series:
            for interrupted in one_series.ended:
                await judge(deployment, interrupted)
