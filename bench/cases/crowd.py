"""What must not depend on how many tasks run, and what a worker asks that has none."""

import statistics
import time

from bench.cases.case import Case
from bench.contenders import ARQ, FASTMCP, SAQ, STREAQ, TASKIQ, TASKMILL, Contender
from bench.figures import Figure, Goal
from bench.plan import Plan
from bench.stage import WARM, Stage

__all__ = ["IDLE", "STARVE"]

_SLOTS = 10


def _starve(contender: Contender, plan: Plan) -> dict[str, float]:
    count = plan.count(60)
    with Stage(contender) as stage:
        stage.work(150)
        stage.send("hold", 150)
        stage.await_note("held", 150)
        stage.work(_SLOTS)
        stage.warm_up()
        stage.send("stamp", count, 0.02)
        stamps = stage.await_note("stamped", WARM + count)[WARM:]
    return {"starve_p50": statistics.median((int(started) - int(sent)) / 1e6 for sent, started in stamps)}


def _idle(contender: Contender, plan: Plan) -> dict[str, float]:
    with Stage(contender) as stage:
        stage.work(_SLOTS)
        stage.warm_up()
        time.sleep(1)  # what the start and the last task leave to be done
        before, began = stage.redis.usage(), time.monotonic()
        time.sleep(max(1.0, 2 * plan.burst))
        used = stage.redis.usage().since(before)
        return {"idle_commands": used.commands / (time.monotonic() - began)}


STARVE = Case(
    "starve",
    (TASKMILL,),
    (
        Figure(
            "starve_p50",
            "enqueue to start on an idle worker while 150 tasks run on another, p50",
            "ms",
            more_is_better=False,
            goal=Goal("≤ 10 ms", lambda _: 10.0),
            digits=2,
        ),
    ),
    _starve,
)
IDLE = Case(
    "idle",
    (TASKMILL, FASTMCP, ARQ, SAQ, TASKIQ, STREAQ),
    (
        Figure(
            "idle_commands",
            "Redis commands of an idle worker, a second",
            "commands/s",
            more_is_better=False,
            peers=(FASTMCP.name, ARQ.name, SAQ.name, TASKIQ.name, STREAQ.name),
            goal=Goal("< 10", lambda _: 10.0),
            digits=1,
        ),
    ),
    _idle,
)
