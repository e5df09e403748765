"""A tool that asks three questions and takes two steps, interrupted between any two awaits by whatever ends a process.

Every order of two interruptions in a row at every place here; `scripts/voyages` sails through every order of all six.
"""

import os

import pytest
from redis_server import PrivateRedis

from windlass.engine.outcome import Returned

from .stage import Stage
from .voyages import INTERRUPTIONS, PLACES, Fleet, every_order

_LENGTH = int(os.environ.get("WINDLASS_TEST_VOYAGES", "2"))


@pytest.mark.parametrize("length", [1, 2, 3])
def test_the_rounds_hold_every_order_of_interruptions(length: int) -> None:
    rounds = every_order(length)
    windows = {tuple((rounds + rounds)[at : at + length]) for at in range(len(rounds))}

    assert len(rounds) == len(windows) == len(INTERRUPTIONS) ** length


@pytest.mark.timeout(60 + 3 * 4**_LENGTH)
async def test_each_step_takes_effect_once_and_each_question_is_asked_once_whatever_interrupts(
    frail: Stage, own_redis: PrivateRedis
) -> None:
    rounds = every_order(_LENGTH)
    fleet = Fleet(frail, own_redis)

    await fleet.sail([*rounds, *rounds[: PLACES - 1]])

    assert len(fleet.ended) == len(rounds) + PLACES - 1
    for voyage in fleet.ended:
        view = await frail.done(voyage.task_id, within=20)
        assert isinstance(view.outcome, Returned), voyage
        log = view.outcome.value["structuredContent"]["result"]
        assert [log[0], log[2], log[4]] == ["accept"] * 3, voyage
        assert [voyage.noted(step) for step in ("load", "unload")] == [1, 1], voyage
        assert (await frail.moves(voyage.task_id)).count("ask") == 3, voyage
        assert view.record.failures == 0
