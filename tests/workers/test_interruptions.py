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
from tests.workers.deployment import Hatchery, Stage
from tests.workers.interruption_orders import INTERRUPTIONS, PLACES, TOOLS, Fleet, Voyage, every_order, lines_of

_LENGTH = int(os.environ.get("TASKMILL_TEST_INTERRUPTIONS", "2"))
_LINES = 2 if _LENGTH <= 2 else 8
"""Lines that sail side by side: one only waits, most of the time."""


@pytest.mark.parametrize("length", [1, 2, 3])
def test_the_rounds_hold_every_order_of_interruptions(length: int) -> None:
    rounds = every_order(length)
    windows = {tuple((rounds + rounds)[at : at + length]) for at in range(len(rounds))}

    assert len(rounds) == len(windows) == len(INTERRUPTIONS) ** length


@pytest.mark.parametrize("count", [1, 3, 4])
def test_lines_side_by_side_see_what_one_long_line_would(count: int) -> None:
    rounds = every_order(2)
    trip = rounds + rounds
    lives = [tuple(line[at : at + len(PLACES)]) for line, begun in lines_of(rounds, count) for at in range(begun)]

    assert Counter(lives) == Counter(tuple(trip[at : at + len(PLACES)]) for at in range(len(rounds)))


@asynccontextmanager
async def private_stage(folder: Path, hatchery: Hatchery) -> AsyncIterator[tuple[Stage, PrivateRedis]]:
    """A stage on a Redis of its own; what must be true is checked in the end."""
    folder.mkdir()
    with PrivateRedis(appendonly="yes", appendfsync="no") as server:
        async with Redis.from_url(server.url) as client:
            stage = Stage(client, server.url, folder, hatchery)
            yield stage, server
            await stage.end()
            await stage.check()


async def judge(stage: Stage, voyage: Voyage) -> None:
    view = await stage.done(voyage.task_id, within=20)
    assert isinstance(view.outcome, Returned), voyage
    log = view.outcome.value["structuredContent"]["result"]
    assert [log[0], log[2], log[4]] == ["accept"] * 3, voyage
    assert [voyage.noted(step) for step in ("load", "unload")] == [1, 1], voyage
    # An attempt that meets its open question again waits for it again: that opens no other one.
    waiting = [
        0,
        *(event.facts["questions"] for event in await stage.events(voyage.task_id) if "questions" in event.facts),
    ]
    assert sum(max(0, now - before) for before, now in pairwise(waiting)) == 3, voyage
    assert view.record.failures == 0


@pytest.mark.timeout(90 + 2 * 4**_LENGTH)
async def test_each_step_takes_effect_once_and_each_question_is_asked_once_whatever_interrupts(
    tmp_path: Path, hatchery: Hatchery
) -> None:
    rounds = every_order(_LENGTH)
    async with AsyncExitStack() as stack:
        fleets: list[tuple[Stage, Fleet]] = []
        async with asyncio.TaskGroup() as group:
            for number, line in enumerate(lines_of(rounds, _LINES)):
                there = await stack.enter_async_context(private_stage(tmp_path / f"line-{number}", hatchery))
                fleets.append((there[0], Fleet(*there)))
                group.create_task(fleets[-1][1].sail(*line))

        met = [voyage for _, fleet in fleets for voyage in fleet.ended]
        assert len(met) == len(rounds) * len(TOOLS)
        assert {len(voyage.met) for voyage in met} == {len(PLACES)}
        for stage, fleet in fleets:
            for voyage in fleet.ended:
                await judge(stage, voyage)
